"""Testing kit: a scripted log in memory and a clock moved by hand. Takes the place of the real stores in `ReadUnified`.

    log = InMemoryLog("pins")
    log.append(0, b"a", timestamp=1_000)
    log.append(0, b"b", timestamp=2_000)
    log.flush(0)                      # both are archived now
    log.expire(0, 2)                  # and gone from Kafka
    log.append(0, b"c", timestamp=3_000)

    p | ReadUnified("pins", log.kafka, log.archive, timestamp_fn=KafkaTimestamp(), stop=Stop.offsets({0: 3}))

A pipeline reads it in milliseconds, without a service, with the same records and watermarks every time. It obeys the
contract suite that the real archive and the real broker obey (tests/contracts).

Scripts: `log.when_asked(0, 50, log.expire, 0, 40)` runs an action just before a reader is answered about offset 50 or a
later one: retention that passes in mid-read, a late file, new records. `log.stall(0, fetches=3)` makes Kafka answer
nothing three times.

Whether two reads gave the same records, to the byte: `PartitionDigests` and `assert_same_digests` (`digests`).

Limits: one process. Name the runner in tests (FnApiRunner); a log that was pickled into another process says so.
"""

import threading
import uuid
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from beam_unified.digests import PartitionDigest, PartitionDigests, assert_same_digests, digests_of, same_digests
from beam_unified.errors import ArchiveUnavailableError, ConfigError, DataLossError, UnknownTopicError
from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.records import Batch, Headers, ListBatch, Record, Store, TimestampType
from beam_unified.stores import Fetched, OutOfRange

__all__ = [
    # a log in memory
    "InMemoryLog",
    "InMemoryKafka",
    "InMemoryArchive",
    "InMemoryTopics",
    "InMemoryCluster",
    "InMemoryArchives",
    "ManualClock",
    # whether two reads gave the same
    "PartitionDigests",
    "PartitionDigest",
    "digests_of",
    "assert_same_digests",
    "same_digests",
]

_registry: dict[str, "InMemoryLog | InMemoryTopics | ManualClock"] = {}


class ManualClock:
    """A clock that stands until it is moved. Pickles by reference, within one process."""

    def __init__(self, now_ms: int = 0) -> None:
        """Starts at `now_ms`, milliseconds since the epoch."""
        self._now_ms = now_ms
        self._key = str(uuid.uuid4())
        _registry[self._key] = self

    def now_ms(self) -> int:
        """Wall clock, milliseconds."""
        return self._now_ms

    def monotonic(self) -> float:
        """Seconds."""
        return self._now_ms / 1_000

    def wait(self, seconds: float) -> None:
        """Comes back at once: nobody waits for a clock that stands."""

    def advance(self, milliseconds: int) -> None:
        """Moves the clock on."""
        self._now_ms += milliseconds

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return _look_up, (self._key,)


@dataclass(slots=True)
class _Script:
    """An action that waits for a reader to come by."""

    offset: int
    action: Callable[[], object]


@dataclass(slots=True)
class _Partition:
    """State of one partition. Mutable: it is the world that the test moves."""

    records: list[Record] = field(default_factory=list)
    log_start: int = 0
    end: int = 0
    epochs: list[int] = field(default_factory=lambda: [0])  # leader epoch -> the offset at which it began
    last_stable: int | None = None
    flushes: dict[Flush, tuple[Record, ...]] = field(default_factory=dict)
    stalls: int = 0
    scripts: list[_Script] = field(default_factory=list)

    def epoch_at(self, offset: int) -> int:
        """Leader epoch of a record."""
        return max(epoch for epoch, start in enumerate(self.epochs) if start <= offset)

    def epoch_end(self, leader_epoch: int) -> int:
        """Where an epoch ended in the log as it is now; the log's end for the newest."""
        return self.epochs[leader_epoch + 1] if leader_epoch + 1 < len(self.epochs) else self.end


class InMemoryLog:
    """One topic in memory, in two scripted halves. Thread safe. See the module for an example."""

    def __init__(self, topic: str, *, partitions: int = 1, isolation_level: str = "read_committed") -> None:
        """An empty topic."""
        self.topic = topic
        self._isolation_level = isolation_level
        self._partitions = [_Partition() for _ in range(partitions)]
        self._lock = threading.RLock()
        self._key = str(uuid.uuid4())
        self._topic_id = str(uuid.uuid4())
        self.asked: dict[str, int] = defaultdict(int)
        """How often each half was asked: "fetch", "list", "open". For tests of what is NOT asked."""
        _registry[self._key] = self

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return _look_up, (self._key,)

    @property
    def kafka(self) -> "InMemoryKafka":
        """The Kafka half, for `ReadUnified(kafka=...)`."""
        return InMemoryKafka(self)

    @property
    def archive(self) -> "InMemoryArchive":
        """The archive half, for `ReadUnified(archive=...)`."""
        return InMemoryArchive(self)

    # -- scripting the world

    def append(
        self,
        partition: int,
        value: bytes | None,
        *,
        timestamp: int | None = None,
        key: bytes | None = None,
        headers: Headers = (),
    ) -> int:
        """Produces one record; gives its offset. `timestamp` in milliseconds, None for a record without one."""
        with self._lock:
            state = self._partitions[partition]
            kind = None if timestamp is None else TimestampType.CREATE_TIME
            record = Record(key, value, headers, self.topic, partition, state.end, timestamp, kind, Store.KAFKA.value)
            state.records.append(record)
            state.end += 1
            return record.offset

    def hole(self, partition: int, offsets: int = 1) -> None:
        """Takes offsets that no record has: a transaction marker, aborted records, a compacted stretch at the end."""
        with self._lock:
            self._partitions[partition].end += offsets

    def compact(self, partition: int, *offsets: int) -> None:
        """Removes records from Kafka, leaving holes."""
        with self._lock:
            state = self._partitions[partition]
            state.records = [record for record in state.records if record.offset not in set(offsets)]

    def open_transaction(self, partition: int, first_offset: int | None) -> None:
        """Records from `first_offset` on belong to an open transaction; None ends it."""
        with self._lock:
            self._partitions[partition].last_stable = first_offset

    def expire(self, partition: int, log_start: int) -> None:
        """Retention passes: Kafka forgets every offset below `log_start`."""
        with self._lock:
            state = self._partitions[partition]
            state.log_start = max(state.log_start, log_start)
            state.end = max(state.end, log_start)
            state.records = [record for record in state.records if record.offset >= log_start]

    def truncate(self, partition: int, end: int) -> None:
        """An unclean election: Kafka forgets every offset from `end` on, and a new leader epoch begins there."""
        with self._lock:
            state = self._partitions[partition]
            state.end, state.log_start = end, min(state.log_start, end)
            state.epochs = [*(min(start, end) for start in state.epochs), end]
            state.records = [record for record in state.records if record.offset < end]

    def create_anew(self) -> None:
        """The topic is deleted and created again under its name: empty, with another id. The archive stays."""
        with self._lock:
            self._topic_id = str(uuid.uuid4())
            for state in self._partitions:
                state.records, state.log_start, state.end, state.epochs = [], 0, 0, [0]
                state.last_stable, state.stalls = None, 0

    def flush(self, partition: int, start: int | None = None, stop: int | None = None) -> Flush:
        """Archives what Kafka holds of `[start, stop)`; from the archive's end, to Kafka's end by default."""
        with self._lock:
            state = self._partitions[partition]
            first = self._archive_end(partition) if start is None else start
            last = state.end if stop is None else stop
            records = tuple(record for record in state.records if first <= record.offset < last)
            times = [record.timestamp for record in records if record.timestamp is not None]
            flush = Flush(first, last, min(times, default=None), max(times, default=None))
            state.flushes[flush] = records
            return flush

    def remove(self, partition: int, flush: Flush) -> tuple[Record, ...]:
        """Removes a flush from the archive: a gap. Gives what it held, for `restore`."""
        with self._lock:
            return self._partitions[partition].flushes.pop(flush)

    def restore(self, partition: int, flush: Flush, records: tuple[Record, ...]) -> None:
        """Puts a flush (back) into the archive: a late file."""
        with self._lock:
            self._partitions[partition].flushes[flush] = records

    def add_partition(self) -> int:
        """The topic grows; gives the new partition's number."""
        with self._lock:
            self._partitions.append(_Partition())
            return len(self._partitions) - 1

    def stall(self, partition: int, fetches: int) -> None:
        """Kafka answers nothing to the next fetches, and nobody can tell whether it is alive."""
        with self._lock:
            self._partitions[partition].stalls = fetches

    def when_asked(self, partition: int, offset: int, action: Callable[..., object], *args: object) -> None:
        """Runs `action(*args)` once, just before a reader is answered about `offset` or a later one."""
        with self._lock:
            self._partitions[partition].scripts.append(_Script(offset, lambda: action(*args)))

    def records(self, partition: int) -> list[Record]:
        """Every record in either half, by offset: what one reader of the whole log must see."""
        with self._lock:
            state = self._partitions[partition]
            found = {record.offset: record for records in state.flushes.values() for record in records}
            found.update((record.offset, record) for record in state.records)
            return [found[offset] for offset in sorted(found)]

    # -- what the two halves ask

    def _state(self, tp: TopicPartition) -> _Partition:
        if tp.topic != self.topic or not 0 <= tp.partition < len(self._partitions):
            raise UnknownTopicError(
                f"{tp} does not exist: this log is topic {self.topic!r} with {len(self._partitions)} partitions."
            )
        return self._partitions[tp.partition]

    def _come_by(self, tp: TopicPartition, offset: int) -> _Partition:
        state = self._state(tp)
        due = [script for script in state.scripts if offset >= script.offset]
        state.scripts = [script for script in state.scripts if offset < script.offset]
        for script in due:
            script.action()
        return state

    def _archive_end(self, partition: int) -> int:
        return FlushIndex(self._partitions[partition].flushes).stop or 0


@dataclass(frozen=True, slots=True)
class InMemoryKafka:
    """Description and connection of the Kafka half, in one."""

    log: InMemoryLog

    @property
    def isolation_level(self) -> str:
        """As given to the log."""
        return self.log._isolation_level  # noqa: SLF001 - two halves of one thing

    def connect(self) -> "InMemoryKafka":
        """Itself."""
        return self

    def partitions(self, topic: str) -> tuple[int, ...]:
        """Partition numbers."""
        if topic != self.log.topic:
            raise UnknownTopicError(f"topic {topic!r} does not exist: this log is topic {self.log.topic!r}.")
        return tuple(range(len(self.log._partitions)))  # noqa: SLF001

    def topics(self) -> tuple[str, ...]:
        """The one topic."""
        return (self.log.topic,)

    def topic_id(self, topic: str) -> str | None:
        """Of the topic as it is now."""
        return self.log._topic_id if topic == self.log.topic else None  # noqa: SLF001

    def bounds(self, tp: TopicPartition) -> OffsetRange:
        """Log start and last stable offset."""
        with self.log._lock:  # noqa: SLF001
            state = self.log._state(tp)  # noqa: SLF001
            return OffsetRange(state.log_start, state.end if state.last_stable is None else state.last_stable)

    def offset_at(self, tp: TopicPartition, timestamp_ms: int) -> int | None:
        """First offset at or after an instant."""
        with self.log._lock:  # noqa: SLF001
            end = self.bounds(tp).stop
            for record in self.log._state(tp).records:  # noqa: SLF001
                if record.offset < end and record.timestamp is not None and record.timestamp >= timestamp_ms:
                    return record.offset
            return None

    def fetch(
        self, tp: TopicPartition, offset: int, *, max_records: int, timeout_ms: int, leader_epoch: int | None = None
    ) -> Fetched | OutOfRange:
        """Records from an offset on. Never waits."""
        del timeout_ms
        with self.log._lock:  # noqa: SLF001
            self.log.asked["fetch"] += 1
            state = self.log._come_by(tp, offset)  # noqa: SLF001
            held = self.bounds(tp)
            if leader_epoch is not None and state.epoch_end(leader_epoch) < offset:
                raise DataLossError(
                    f"{tp}: the log was truncated to offset {state.epoch_end(leader_epoch)}, below offset {offset}, which "
                    "was to be read next. Decide where to go on with Start.offsets(...)."
                )
            if not state.log_start <= offset <= state.end:
                return OutOfRange(held=held)
            if state.stalls > 0:
                state.stalls -= 1
                return Fetched(batch=None, next_offset=offset, high_watermark=state.end, at_end=False)
            first = bisect_left(state.records, offset, key=lambda record: record.offset)
            readable = [r for r in state.records[first : first + max_records] if r.offset < held.stop]
            last_read = readable[-1].offset + 1 if len(readable) == max_records else max(offset, held.stop)
            return Fetched(
                batch=ListBatch(readable, Store.KAFKA) if readable else None,
                next_offset=last_read,
                high_watermark=state.end,
                at_end=not readable and last_read == offset == state.end,
                leader_epoch=state.epoch_at(readable[-1].offset) if readable else leader_epoch,
            )

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True, slots=True)
class InMemoryArchive:
    """Description and connection of the archive half, in one. Its listing is always fresh."""

    log: InMemoryLog

    @property
    def index_is_proof(self) -> bool:
        """It is."""
        return True

    def connect(self) -> "InMemoryArchive":
        """Itself."""
        return self

    def check(self, topic: str, *, isolation_level: str, must_exist: bool = True) -> None:
        """As the real archive."""
        if must_exist and topic != self.log.topic:
            raise ArchiveUnavailableError(f"no archive of topic {topic!r}: this log is topic {self.log.topic!r}.")
        if isolation_level != self.log._isolation_level:  # noqa: SLF001
            raise ConfigError(f"the archive is {self.log._isolation_level}, the reader {isolation_level}.")  # noqa: SLF001

    def index(self, tp: TopicPartition, *, refresh: bool = False) -> FlushIndex:
        """The flushes of a partition."""
        with self.log._lock:  # noqa: SLF001
            if refresh:
                self.log.asked["list"] += 1
            return FlushIndex(self.log._state(tp).flushes)  # noqa: SLF001

    def open(self, tp: TopicPartition, flush: Flush, offset: int) -> "_InMemoryFlush":
        """Opens a flush."""
        with self.log._lock:  # noqa: SLF001
            self.log.asked["open"] += 1
            records = self.log._come_by(tp, offset).flushes[flush]  # noqa: SLF001
            return _InMemoryFlush(self.log, tp, [record for record in records if record.offset >= offset])

    def url(self, tp: TopicPartition, flush: Flush) -> str:
        """A name that no file has."""
        return f"memory:{tp.topic}/{tp.partition}/{flush.start}-{flush.stop}"

    def close(self) -> None:
        """Nothing to give back."""


class InMemoryTopics:
    """Several topics in memory, as one cluster and one archive: for `ReadUnified` with a list of topics or a pattern."""

    def __init__(self, *logs: InMemoryLog) -> None:
        """Takes the topics that there are; more may be added while a pipeline runs."""
        self._logs = {log.topic: log for log in logs}
        self._key = str(uuid.uuid4())
        _registry[self._key] = self

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return _look_up, (self._key,)

    def add(self, log: InMemoryLog) -> None:
        """A topic appears."""
        self._logs[log.topic] = log

    @property
    def kafka(self) -> "InMemoryCluster":
        """The Kafka half, for `ReadUnified(kafka=...)`."""
        return InMemoryCluster(self)

    @property
    def archive(self) -> "InMemoryArchives":
        """The archive half, for `ReadUnified(archive=...)`."""
        return InMemoryArchives(self)

    def topics(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(sorted(self._logs))

    def log(self, topic: str) -> InMemoryLog:
        """The log of a topic."""
        if topic not in self._logs:
            raise UnknownTopicError(f"topic {topic!r} does not exist: there are {', '.join(self.topics()) or 'none'}.")
        return self._logs[topic]


@dataclass(frozen=True, slots=True)
class InMemoryCluster:
    """The Kafka half of several topics. Each question goes to the topic's own log."""

    logs: InMemoryTopics

    @property
    def isolation_level(self) -> str:
        """As the first log's; they are to agree."""
        return self.logs.log(self.logs.topics()[0]).kafka.isolation_level if self.logs.topics() else "read_committed"

    def connect(self) -> "InMemoryCluster":
        """Itself."""
        return self

    def topics(self) -> tuple[str, ...]:
        """Names."""
        return self.logs.topics()

    def partitions(self, topic: str) -> tuple[int, ...]:
        """Partition numbers."""
        return self.logs.log(topic).kafka.partitions(topic)

    def topic_id(self, topic: str) -> str | None:
        """Of the topic as it is now."""
        return self.logs.log(topic).kafka.topic_id(topic)

    def bounds(self, tp: TopicPartition) -> OffsetRange:
        """Log start and last stable offset."""
        return self.logs.log(tp.topic).kafka.bounds(tp)

    def offset_at(self, tp: TopicPartition, timestamp_ms: int) -> int | None:
        """First offset at or after an instant."""
        return self.logs.log(tp.topic).kafka.offset_at(tp, timestamp_ms)

    def fetch(
        self, tp: TopicPartition, offset: int, *, max_records: int, timeout_ms: int, leader_epoch: int | None = None
    ) -> Fetched | OutOfRange:
        """Records from an offset on. Never waits."""
        kafka = self.logs.log(tp.topic).kafka
        return kafka.fetch(tp, offset, max_records=max_records, timeout_ms=timeout_ms, leader_epoch=leader_epoch)

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True, slots=True)
class InMemoryArchives:
    """The archive half of several topics. Each question goes to the topic's own log."""

    logs: InMemoryTopics

    @property
    def index_is_proof(self) -> bool:
        """It is."""
        return True

    def connect(self) -> "InMemoryArchives":
        """Itself."""
        return self

    def check(self, topic: str, *, isolation_level: str, must_exist: bool = True) -> None:
        """As the real archive."""
        self.logs.log(topic).archive.check(topic, isolation_level=isolation_level, must_exist=must_exist)

    def index(self, tp: TopicPartition, *, refresh: bool = False) -> FlushIndex:
        """The flushes of a partition."""
        return self.logs.log(tp.topic).archive.index(tp, refresh=refresh)

    def open(self, tp: TopicPartition, flush: Flush, offset: int) -> "_InMemoryFlush":
        """Opens a flush."""
        return self.logs.log(tp.topic).archive.open(tp, flush, offset)

    def url(self, tp: TopicPartition, flush: Flush) -> str:
        """As the topic's own."""
        return self.logs.log(tp.topic).archive.url(tp, flush)

    def close(self) -> None:
        """Nothing to give back."""


class _InMemoryFlush:
    """An open flush."""

    def __init__(self, log: InMemoryLog, tp: TopicPartition, records: list[Record]) -> None:
        self._log, self._tp, self._left = log, tp, records

    def read(self, max_records: int) -> Batch | None:
        """The next records."""
        taken, self._left = self._left[:max_records], self._left[max_records:]
        if not taken:
            return None
        with self._log._lock:  # noqa: SLF001
            self._log._come_by(self._tp, taken[0].offset)  # noqa: SLF001
        return ListBatch(taken, Store.ARCHIVE)

    def close(self) -> None:
        """Nothing to give back."""


def _look_up(key: str) -> object:
    try:
        return _registry[key]
    except KeyError:
        raise ConfigError(
            "an InMemoryLog or ManualClock was sent to another process, where it does not exist: run the pipeline on a "
            "runner within this process, 'apache_beam.runners.portability.fn_api_runner.FnApiRunner'."
        ) from None
