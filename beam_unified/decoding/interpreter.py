"""What a batch means: decoded values and event times, each worked out once; and the records that have none (B1)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from beam_unified import dead_letters
from beam_unified.dead_letters import DeadLetter
from beam_unified.decoding.decoder import Decode, Decoder
from beam_unified.errors import BadRecordError, ConfigError, StoreError
from beam_unified.event_time import ElementTime, EventTime, checked_micros
from beam_unified.records import Batch, ListBatch, Record

_LONGEST = 500  # characters of a decoder's own words: it may quote the record


@dataclass(frozen=True, slots=True)
class Meaning:
    """Records that mean something.

    Attributes:
        batch: The records, at least one.
        micros: Event times in microseconds since the epoch, one a record.
        elements: Decoded values, one a record; None without a decoder.
    """

    batch: Batch
    micros: Sequence[int]
    elements: Sequence[Any] | None


class Interpreter:
    """Decodes and times batches. Not thread safe; made on the worker."""

    def __init__(self, decoder: Decoder | None, times: EventTime | ElementTime) -> None:
        """Opens the decoder, which looks its secrets up."""
        self._decode: Decode | None = None if decoder is None else decoder.open()
        self._name = type(decoder).__name__
        self._times = times

    def meaning(self, batch: Batch) -> Meaning:
        """Of a non-empty batch. Raises BadRecordError, naming the first record without one."""
        try:
            elements = self._decoded(batch)
        except BadRecordError:
            self._first_bad(batch)
            raise
        return Meaning(batch, checked_micros(self._times, batch, elements)[0], elements)

    def sorted_out(self, batch: Batch) -> tuple[Meaning | None, list[DeadLetter]]:
        """The good records of a non-empty batch, and the bad ones. One pass over the records, where any is bad."""
        try:
            return Meaning(batch, checked_micros(self._times, batch, elements := self._decoded(batch))[0], elements), []
        except BadRecordError:
            pass
        good: list[tuple[Record, int, Any]] = []
        bad: list[DeadLetter] = []
        for record in batch.iter_records():
            alone, reason = ListBatch([record], batch.store), dead_letters.NOT_DECODED
            try:
                decoded = self._decoded(alone)
                reason = dead_letters.NO_EVENT_TIME
                micros = checked_micros(self._times, alone, decoded)[0][0]
            except BadRecordError as error:
                bad.append(dead_letters.of_record(record, error, reason))
            else:
                good.append((record, micros, None if decoded is None else decoded[0]))
        if not good:
            return None, bad
        kept = ListBatch([record for record, _, _ in good], batch.store)
        values = None if self._decode is None else [value for _, _, value in good]
        return Meaning(kept, [micros for _, micros, _ in good], values), bad

    def _decoded(self, batch: Batch) -> Sequence[Any] | None:
        """None without a decoder. Raises BadRecordError that names the record where there is only one in the batch."""
        if self._decode is None:
            return None
        try:
            elements = self._decode(batch)
        except (StoreError, ConfigError):
            raise  # not the record's fault: a dead letter would hide it
        except Exception as error:
            record = next(batch.iter_records())
            said = str(error)[:_LONGEST]
            raise BadRecordError(
                f"{record.topic}[{record.partition}] offset {record.offset} (from {record.store}) cannot be decoded by "
                f"{self._name} ({type(error).__name__}: {said}). Give ReadUnified a decoder that fits, or set it apart with "
                "dead_letters=True."
            ) from error
        if len(elements) != len(batch):
            raise ConfigError(
                f"{self._name} gave {len(elements)} values for {len(batch)} records: it must give one each."
            )
        return elements

    def _first_bad(self, batch: Batch) -> None:
        for record in batch.iter_records():
            self._decoded(ListBatch([record], batch.store))
