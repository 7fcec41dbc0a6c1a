"""librdkafka's messages as columns: what one fetch brought, and the batch that is made of it.

Messages are taken apart a few at a time and dropped. Python's garbage collector looks after each of them while it lives, not after
the bytes and numbers in it: of 4,096 that are alive at once each costs 1.7 us, before it is looked at; taken apart, 0.6 us in all.
"""

import logging
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import chain, repeat

from confluent_kafka import KafkaError, Message

from beam_unified.offsets import TopicPartition
from beam_unified.records import TIMESTAMP_TYPES, Batch, Columns, Headers, Record, Store, TimestampType, record_rows

_LOGGER = logging.getLogger(__name__)

_NO_EPOCH = -1

_TYPES = {member.value + 1: member for member in TimestampType}  # librdkafka counts from "not available"


class Reading:
    """What one fetch has brought so far, up to what could not be read. Mutable: it grows by every few messages.

    Attributes:
        position: The next offset; None where nothing tells.
        trouble: Why it ends there: the client's error. What lies behind it is not to be trusted.
        leader_epoch: Of the last record; None where it is not known.
    """

    __slots__ = (
        "_headers",
        "_keys",
        "_offsets",
        "_timestamps",
        "_types",
        "_values",
        "leader_epoch",
        "position",
        "trouble",
    )

    def __init__(self) -> None:
        """Nothing yet."""
        self.position: int | None = None
        self.trouble: KafkaError | None = None
        self.leader_epoch: int | None = None
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._headers: list[Headers] = []
        self._offsets: list[int] = []
        self._timestamps: list[int | None] = []
        self._types: list[int | None] = []

    def take(self, messages: Sequence[Message]) -> None:
        """More of it, as the client gave it. Only where an event is among the records is each looked at by itself."""
        if any(map(Message.error, messages)):
            messages = self._sorted_out(messages)
        elif messages:
            self.position = messages[-1].offset() + 1
        if messages:
            self._extend(messages)
            epoch = messages[-1].leader_epoch()
            self.leader_epoch = self.leader_epoch if epoch == _NO_EPOCH else epoch

    def batch(self, tp: TopicPartition) -> "MessageBatch | None":
        """The records; None where there are none."""
        if not self._offsets:
            return None
        return MessageBatch(
            tp, Columns(self._keys, self._values, self._headers, self._offsets, self._timestamps, self._types)
        )

    def _extend(self, messages: Sequence[Message]) -> None:
        """By calls in C: one a record a column."""
        self._keys.extend(map(Message.key, messages))
        self._values.extend(map(Message.value, messages))
        self._offsets.extend(map(Message.offset, messages))
        found = list(map(Message.headers, messages))
        self._headers.extend([tuple(pairs or ()) for pairs in found] if any(found) else repeat((), len(messages)))
        first, _ = messages[0].timestamp()
        times = [time for kind, time in map(Message.timestamp, messages) if kind == first and time != -1]
        if first in _TYPES and len(times) == len(messages):  # as a rule they are of one type
            self._timestamps.extend(times)
            self._types.extend(repeat(_TYPES[first].value, len(times)))
            return
        for kind, time in map(Message.timestamp, messages):
            known = None if time == -1 else _TYPES.get(kind)
            self._timestamps.append(None if known is None else time)
            self._types.append(None if known is None else known.value)

    def _sorted_out(self, messages: Sequence[Message]) -> list[Message]:
        """The records before the first trouble."""
        records: list[Message] = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
                self.position = message.offset() + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - that is its public name
                self.position = message.offset()
            elif message.topic() is None:
                _LOGGER.debug("not about a partition: %s", error)  # a group's coordinator, which nobody needs
            else:
                self.trouble = error
                break
        return records


class MessageBatch:
    """A batch over columns."""

    __slots__ = ("_columns", "_tp")

    store = Store.KAFKA

    def __init__(self, tp: TopicPartition, columns: Columns) -> None:
        """Takes columns of one partition, in offset order."""
        self._tp = tp
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns.offsets)

    def last_offset(self) -> int:
        """Offset of the last record."""
        return self._columns.offsets[-1]

    def offsets(self) -> Sequence[int]:
        """Offsets."""
        return self._columns.offsets

    def timestamps(self) -> Sequence[int | None]:
        """Kafka timestamps."""
        return self._columns.timestamps

    def values(self) -> Sequence[bytes | None]:
        """Values."""
        return self._columns.values

    def iter_records(self) -> Iterator[Record]:
        """Whole records, one by one."""
        keys, values, headers, offsets, timestamps, types = self._columns
        return record_rows(
            keys,
            values,
            headers,
            repeat(self._tp.topic),
            repeat(self._tp.partition),
            offsets,
            timestamps,
            map(TIMESTAMP_TYPES.__getitem__, types),
            repeat(self.store.value),
        )

    def records(self) -> list[Record]:
        """Whole records at once."""
        return list(self.iter_records())

    def columns(self) -> Columns:
        """Implements `records.Columnar`."""
        return self._columns

    def size_bytes(self) -> int:
        """Keys and values."""
        return sum(map(len, filter(None, chain(self._columns.keys, self._columns.values))))

    def between(self, start: int, stop: int | None) -> Batch:
        """The records with `start <= offset < stop`."""
        offsets = self._columns.offsets
        first = bisect_left(offsets, start)
        last = len(offsets) if stop is None else bisect_left(offsets, stop)
        if first == 0 and last == len(offsets):
            return self
        held, cut = self._columns, slice(first, last)
        return MessageBatch(
            self._tp,
            Columns(
                held.keys[cut],
                held.values[cut],
                held.headers[cut],
                offsets[cut],
                held.timestamps[cut],
                held.timestamp_types[cut],
            ),
        )
