"""What a batch means: decoded values and event times, each worked out once; and the records that have none (B1).

With `pack`, decoded values become a column, too, and times an array: for an output of columns. A value that does not fit into
its column cannot be decoded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from beam_unified import dead_letters
from beam_unified.dead_letters import DeadLetter
from beam_unified.decoding.decoder import Decode, Decoder
from beam_unified.decoding.ranges import range_check
from beam_unified.errors import BadRecordError, ConfigError, StoreError
from beam_unified.event_time import ElementTime, EventTime, checked_micros, micros_array
from beam_unified.records import Batch, ListBatch, Record

_LONGEST = 500  # characters of a decoder's own words: it may quote the record

Pack: TypeAlias = Callable[[Sequence[Any]], Any]
"""Decoded values to a column. Raises where one does not fit."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """Records that mean something.

    Attributes:
        batch: The records, at least one.
        micros: Event times in microseconds since the epoch, one a record.
        elements: Decoded values, one a record; None without a decoder.
        column: The same as a column, where that was asked for and none of the records was bad.
    """

    batch: Batch
    micros: "Sequence[int] | np.ndarray"
    elements: Sequence[Any] | None
    column: Any = None

    @property
    def oldest(self) -> int:
        """Smallest event time."""
        return min(self.micros) if isinstance(self.micros, Sequence) else int(self.micros.min())

    @property
    def newest(self) -> int:
        """Largest event time."""
        return max(self.micros) if isinstance(self.micros, Sequence) else int(self.micros.max())


class Interpreter:
    """Decodes and times batches. Not thread safe; made on the worker."""

    def __init__(
        self,
        decoder: Decoder | None,
        times: EventTime | ElementTime,
        *,
        columns: bool = False,
        pack: Pack | None = None,
    ) -> None:
        """Opens the decoder, which looks its secrets up. `columns`: event times as an array; `pack` makes a column of values."""
        self._decode: Decode | None = None if decoder is None else decoder.open()
        self._check = None if decoder is None else range_check(decoder.element_type)
        self._columns, self._pack = columns, pack
        self._name = type(decoder).__name__
        self._times = times

    def meaning(self, batch: Batch) -> Meaning:
        """Of a non-empty batch. Raises BadRecordError, naming the first record without one."""
        try:
            elements, column = self._decoded(batch)
        except BadRecordError:
            self._first_bad(batch)
            raise
        return Meaning(batch, self._micros(batch, elements), elements, column)

    def sorted_out(self, batch: Batch) -> tuple[Meaning | None, list[DeadLetter]]:
        """The good records of a non-empty batch, and the bad ones. One pass over the records, where any is bad."""
        try:
            elements, column = self._decoded(batch)
            return Meaning(batch, self._micros(batch, elements), elements, column), []
        except BadRecordError:
            pass
        good: list[tuple[Record, int, Any]] = []
        bad: list[DeadLetter] = []
        for record in batch.iter_records():
            alone, reason = ListBatch([record], batch.store), dead_letters.NOT_DECODED
            try:
                decoded, _ = self._decoded(alone)
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

    def _micros(self, batch: Batch, elements: Sequence[Any] | None) -> "Sequence[int] | np.ndarray":
        if self._columns:
            return micros_array(self._times, batch, elements)
        return checked_micros(self._times, batch, elements)[0]

    def _decoded(self, batch: Batch) -> tuple[Sequence[Any] | None, Any]:
        """Values and their column; None without. Raises BadRecordError that names the record where it is alone in the batch."""
        if self._decode is None:
            return None, None
        try:
            elements = self._decode(batch)
            if self._check is not None:
                self._check(elements)
            column = None if self._pack is None else self._pack(elements)
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
        return elements, column

    def _first_bad(self, batch: Batch) -> None:
        for record in batch.iter_records():
            self._decoded(ListBatch([record], batch.store))
