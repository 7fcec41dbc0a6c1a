"""What the log holds: `Record`, as users see it, and `Batch`, as the stores hand it over.

Performance rule of the package: what can be done per batch is not done per record. So the stores hand over batches,
and a batch makes `Record` objects, or a plain list of values, only when asked for them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import repeat
from typing import NamedTuple, Protocol, runtime_checkable


class Store(Enum):
    """The two halves of the log."""

    ARCHIVE = "archive"
    KAFKA = "kafka"


class TimestampType(Enum):
    """Who wrote a record's timestamp (KIP-32)."""

    CREATE_TIME = 0
    LOG_APPEND_TIME = 1


TIMESTAMP_TYPES: Mapping[int | None, TimestampType | None] = {
    None: None,
    **{member.value: member for member in TimestampType},
}
"""By the number that stands in columns."""

Headers = tuple[tuple[str, bytes | None], ...]


class Record(NamedTuple):
    """One record of the log: the bytes of Kafka, wherever they were read.

    Attributes:
        key: Bytes as produced; None where there was no key.
        value: Bytes as produced; None is a tombstone.
        headers: (name, value) pairs in order; names may repeat.
        topic: Name of the topic.
        partition: Number of the partition.
        offset: Kafka offset, the same in both stores.
        timestamp: Kafka's timestamp in milliseconds since the epoch; None for records older than Kafka 0.10.
        timestamp_type: Who wrote the timestamp; None where there is none.
        store: "archive" or "kafka": where this copy was read. Two runs may differ in it, and in nothing else.
    """

    key: bytes | None
    value: bytes | None
    headers: Headers
    topic: str
    partition: int
    offset: int
    timestamp: int | None
    timestamp_type: TimestampType | None
    store: str


class KafkaRecord(NamedTuple):
    """A record to be written.

    Attributes:
        value: Bytes; None is a tombstone.
        key: Bytes; None is no key.
        headers: (name, value) pairs in order; names may repeat. kafka-python cannot write one whose value is None.
        timestamp: Milliseconds since the epoch; None is the time of writing.
        partition: Number of the partition; None leaves it to the partitioner.
        topic: Name of the topic; None is that of `WriteKafka`.
    """

    value: bytes | None
    key: bytes | None = None
    headers: Headers = ()
    timestamp: int | None = None
    partition: int | None = None
    topic: str | None = None


def record_rows(*columns: Iterable[object]) -> Iterator[Record]:
    """Columns, in the order of `Record`'s fields, to records: without a Python call a record."""
    return map(tuple.__new__, repeat(Record), zip(*columns, strict=False))


class Batch(Protocol):
    """Some records of one partition, in offset order, from one store. Immutable; columns have equal lengths.

    An implementation may build a column at each call: ask once a batch.
    """

    @property
    def store(self) -> Store:
        """Where the records were read."""
        ...

    def __len__(self) -> int:
        """Number of records."""
        ...

    def last_offset(self) -> int:
        """Offset of the last record; the batch must not be empty."""
        ...

    def offsets(self) -> Sequence[int]:
        """Offsets, strictly increasing."""
        ...

    def timestamps(self) -> Sequence[int | None]:
        """Kafka timestamps in milliseconds since the epoch; None where a record has none."""
        ...

    def values(self) -> Sequence[bytes | None]:
        """Values."""
        ...

    def iter_records(self) -> Iterator[Record]:
        """Whole records, made one by one: thousands of them at once would be work for the garbage collector."""
        ...

    def records(self) -> list[Record]:
        """Whole records at once, for where an index is needed."""
        ...

    def size_bytes(self) -> int:
        """About how many bytes the records take: keys and values, encoded or not. For budgets, not for accounts."""
        ...

    def between(self, start: int, stop: int | None) -> "Batch":
        """The records with `start <= offset < stop`; self where that is all of them."""
        ...


class Columns(NamedTuple):
    """Everything that a batch holds, a column each, of equal lengths: for whoever needs no `Record`s.

    Attributes:
        keys: Keys.
        values: Values.
        headers: Headers.
        offsets: Offsets.
        timestamps: Milliseconds, or None.
        timestamp_types: `TimestampType` as a number, or None.
    """

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Sequence[tuple[str, bytes | None]]]
    offsets: Sequence[int]
    timestamps: Sequence[int | None]
    timestamp_types: Sequence[int | None]

    @classmethod
    def of(cls, batch: Batch) -> "Columns":
        """Those of a batch: as it has them, or out of its records."""
        if isinstance(batch, Columnar):
            return batch.columns()
        return cls.of_records(batch.records())

    @classmethod
    def of_records(cls, records: Sequence[Record]) -> "Columns":
        """Out of records."""
        if not records:
            return cls((), (), (), (), (), ())
        keys, values, headers, _, _, offsets, timestamps, types, _ = zip(*records, strict=True)
        return cls(keys, values, headers, offsets, timestamps, [None if one is None else one.value for one in types])


@runtime_checkable
class Columnar(Protocol):
    """A batch that has its columns at hand."""

    def columns(self) -> Columns:
        """They."""
        ...


class ListBatch:
    """A batch over a list of records."""

    __slots__ = ("_records", "_store")

    def __init__(self, records: Sequence[Record], store: Store) -> None:
        """Takes records of one partition in offset order."""
        self._records = [record._replace(store=store.value) for record in records]
        self._store = store

    @property
    def store(self) -> Store:
        """Where they come from."""
        return self._store

    def __len__(self) -> int:
        return len(self._records)

    def last_offset(self) -> int:
        """Offset of the last record."""
        return self._records[-1].offset

    def offsets(self) -> Sequence[int]:
        """Offsets."""
        return [record.offset for record in self._records]

    def timestamps(self) -> Sequence[int | None]:
        """Kafka timestamps."""
        return [record.timestamp for record in self._records]

    def values(self) -> Sequence[bytes | None]:
        """Values."""
        return [record.value for record in self._records]

    def iter_records(self) -> Iterator[Record]:
        """Records, one by one."""
        return iter(self._records)

    def records(self) -> list[Record]:
        """Records at once."""
        return self._records

    def size_bytes(self) -> int:
        """Keys and values."""
        return sum(len(record.key or b"") + len(record.value or b"") for record in self._records)

    def between(self, start: int, stop: int | None) -> Batch:
        """The records with `start <= offset < stop`."""
        kept = [r for r in self._records if r.offset >= start and (stop is None or r.offset < stop)]
        return ListBatch(kept, self._store)
