"""The two halves of the log, as the reader sees them. Real ones, and the testing kit's, obey one contract suite.

`KafkaSource` and `ArchiveSource` are descriptions: frozen, picklable, without a connection; they travel with the
pipeline. `connect()` makes the living half, on the worker.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.records import Batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What one fetch from Kafka brought.

    Attributes:
        batch: Records, or None where there were none (nothing new, or only transaction markers).
        next_offset: Position after the fetch. May move without a record: markers, aborted transactions, compaction.
        high_watermark: Kafka's high watermark as last seen; None before the first answer.
        at_end: Made sure of, with the broker, in this fetch: nothing at all lies at or above `next_offset`. False while
            a transaction is open above it (the high watermark is ahead of the last stable offset), and false when the
            broker did not answer: neither is an idle partition (rule T2).
        checked_s_ago: How many seconds ago the broker said so; it is not asked at every fetch.
        leader_epoch: Leader epoch of the last record below `next_offset` that was read (KIP-320); None where it is not
            known: nothing was read yet, or the brokers are too old.
    """

    batch: Batch | None
    next_offset: int
    high_watermark: int | None
    at_end: bool
    checked_s_ago: float = 0.0
    leader_epoch: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutOfRange:
    """Kafka does not hold the asked offset: it lies below the log's start, or above its end.

    An answer, not an exception: below the start is everyday life (retention passed), and the reader decides.
    """

    held: OffsetRange


class KafkaLog(Protocol):
    """A connection to the Kafka half. Not thread safe; one reader at a time."""

    def partitions(self, topic: str) -> tuple[int, ...]:
        """Partition numbers, ascending. Raises UnknownTopicError, KafkaUnavailableError."""
        ...

    def topics(self) -> tuple[str, ...]:
        """Names of every topic that these credentials may see, sorted, Kafka's internal ones left out."""
        ...

    def topic_id(self, topic: str) -> str | None:
        """What tells a topic from another of the same name created after it (KIP-516); None where it is not known.

        Answered from the last metadata, so it may be asked once a fetch; no older than `fetch` itself.
        """
        ...

    def bounds(self, tp: TopicPartition) -> OffsetRange:
        """First offset still held, and the end offset (last stable offset under read_committed)."""
        ...

    def offset_at(self, tp: TopicPartition, timestamp_ms: int) -> int | None:
        """First offset whose timestamp is >= `timestamp_ms`; None where no record is that late."""
        ...

    def fetch(
        self, tp: TopicPartition, offset: int, *, max_records: int, timeout_ms: int, leader_epoch: int | None = None
    ) -> Fetched | OutOfRange:
        """Records from `offset` on; waits at most about `timeout_ms` where there are none yet.

        Args:
            tp: Topic partition.
            offset: First offset wanted.
            max_records: At most so many.
            timeout_ms: How long to wait where there are none yet.
            leader_epoch: Of the last record read below `offset`. The brokers are asked whether that epoch reached
                `offset` in the log as it is now.

        Raises:
            DataLossError: it did not: the log was truncated below `offset`, and what is there now are other records.
        """
        ...

    def close(self) -> None:
        """Gives the connection back. Idempotent."""
        ...


class KafkaSource(Protocol):
    """Description of the Kafka half."""

    @property
    def isolation_level(self) -> str:
        """`read_committed` or `read_uncommitted`; must be the one that the archive was written with (R4)."""
        ...

    def connect(self) -> KafkaLog:
        """Opens a connection. Fails within seconds."""
        ...


class FlushReader(Protocol):
    """An open flush, positioned. Not thread safe."""

    def read(self, max_records: int) -> Batch | None:
        """The next records of the flush; None at its end."""
        ...

    def close(self) -> None:
        """Closes files. Idempotent."""
        ...


@runtime_checkable
class MayEndEarly(Protocol):
    """A flush reader that finds out only by reading whether its flush is whole.

    Attributes:
        stop: Once `read` gave None: where it ended; the index leaves out what is missing from there on.
    """

    stop: int


@runtime_checkable
class Incomplete(Protocol):
    """Description of an archive half whose records may lack something (rule A3)."""

    @property
    def lacks(self) -> Collection[str]:
        """Of "key", "timestamp", "headers"."""
        ...

    @property
    def accept_missing(self) -> Collection[str]:
        """Those of it that the user can do without."""
        ...


class Opening(Protocol):
    """A flush that is being opened before its turn. Either call, once."""

    def take(self) -> FlushReader:
        """The flush, when it is open; raises what `ArchiveLog.open` would have raised."""
        ...

    def close(self) -> None:
        """It is not wanted. Does not wait."""
        ...


@runtime_checkable
class OpensAhead(Protocol):
    """An archive half that can open a flush while another one is read."""

    def open_ahead(self, tp: TopicPartition, flush: Flush, offset: int) -> Opening:
        """Begins to do what `ArchiveLog.open` does, and comes back at once."""
        ...


class ArchiveLog(Protocol):
    """The archive half, connected. Thread safe: one per worker, shared by its partitions."""

    @property
    def index_is_proof(self) -> bool:
        """Whether the index says what the files hold. Else it is what their names say, until a flush has been read."""
        ...

    def check(self, topic: str, *, isolation_level: str, must_exist: bool = True) -> None:
        """Raises ArchiveUnavailableError or ConfigError where this archive cannot serve the topic.

        `must_exist=False` is for a topic that has only just appeared: nothing of it has been archived yet.
        """
        ...

    def index(self, tp: TopicPartition, *, refresh: bool = False) -> FlushIndex:
        """The committed flushes of a partition: the cached listing, or with `refresh` a new one."""
        ...

    def open(self, tp: TopicPartition, flush: Flush, offset: int) -> FlushReader:
        """Opens a flush of the index, positioned at the first record >= `offset`."""
        ...

    def url(self, tp: TopicPartition, flush: Flush) -> str:
        """Where the commit of a flush is (its file, in a layout without commits): for whoever is told of it. Asks nobody."""
        ...

    def close(self) -> None:
        """Closes what is open. Idempotent."""
        ...


class ArchiveSource(Protocol):
    """Description of the archive half."""

    def connect(self) -> ArchiveLog:
        """Opens the storage. Fails within seconds."""
        ...
