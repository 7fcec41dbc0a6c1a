"""The archive half of the log with an index made from announcements, instead of listings or beside them (rule A4).

    Announced(Archive("s3://bucket/merced"), KafkaCommitTopic(kafka=Kafka("broker:9092"), topic="archive-commits"))

Stands wherever an `Archive` does. A worker reads the topic of commits once, from its beginning or from an instant, and goes on from
there when its index has aged; all its partitions share it. Files are opened as ever: a commit object says what they are.
"""

import threading
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from beam_unified.archive.ahead import Opening
from beam_unified.archive.archive import Archive, ConnectedArchive
from beam_unified.archive.reader import CommittedFlush
from beam_unified.archiver import announcements
from beam_unified.archiver.announcements import KafkaCommitTopic
from beam_unified.clock import SYSTEM_CLOCK, Clock
from beam_unified.errors import ArchiveUnavailableError, ConfigError, DataLossError, UnknownTopicError
from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import TopicPartition
from beam_unified.positions import instant_ms
from beam_unified.stores import KafkaLog, OutOfRange

_FETCH_RECORDS = 10_000
_FETCH_MS = 200

Index = Literal["announcements", "both"]


@dataclass(frozen=True, slots=True)
class Announced:
    """An archive whose flushes are known by their announcements. Frozen, picklable, without a connection.

    Args:
        archive: Where the files are. Its `refresh_interval` holds for the announcements, too.
        commits: Where they are announced.
        since: Only what was announced at or after this instant (an aware datetime, or ISO 8601 text); None is all of the topic.
            Earlier flushes are not there then: for readers that start later than that.
        index: "announcements" asks the storage for no listing; "both" also lists, for archives that were not always announced.

    Traps: an announcement comes after its commit, and from an archiver that was killed in between only when another one goes on.
    So "announcements" may be behind a listing; a gap is believed after `gap_timeout` only. And a flush that was removed from the
    archive (a lifecycle rule) stays announced, with either index: reading it is an error; read the archive alone then.

    Raises:
        ConfigError: an option that cannot work.
    """

    archive: Archive
    commits: KafkaCommitTopic
    since: datetime | str | None = field(default=None, kw_only=True)
    index: Index = field(default="announcements", kw_only=True)

    def __post_init__(self) -> None:
        if self.since is not None:
            instant_ms(self.since, "since")
        if self.index not in {"announcements", "both"}:
            raise ConfigError(f"index must be 'announcements' or 'both', got {self.index!r}.")

    def connect(self) -> "ConnectedAnnounced":
        """Opens the storage; Kafka when it is first asked."""
        return ConnectedAnnounced(self)


class ConnectedAnnounced:
    """The connection. Implements `stores.ArchiveLog`; thread safe."""

    index_is_proof = True

    def __init__(self, source: Announced, clock: Clock = SYSTEM_CLOCK) -> None:
        """See `Announced.connect`."""
        self._source, self._clock = source, clock
        self._listed = ConnectedArchive(
            source.archive,
            gone=f"is announced on {source.commits.topic!r} and is not there: somebody removed the flush. Restore it, or read the "
            "Archive alone, without Announced: a listing does not have it.",
        )
        self._refresh_s = source.archive.refresh_interval.total_seconds()
        self._lock = threading.Lock()  # guards what follows
        self._log: KafkaLog | None = None
        self._positions: dict[TopicPartition, int] = {}
        self._flushes: dict[TopicPartition, set[Flush]] = defaultdict(set)
        self._levels: dict[str, str] = {}
        self._indexes: dict[TopicPartition, FlushIndex] = {}
        self._asked_at: float | None = None

    def check(self, topic: str, *, isolation_level: str, must_exist: bool = True) -> None:
        """Raises where no commit of the topic is known; remembers the isolation level for every flush opened."""
        if self._source.index == "both":
            self._listed.check(topic, isolation_level=isolation_level, must_exist=must_exist)
            return
        self._listed.expect(topic, isolation_level)
        with self._lock:
            self._catch_up()
            known, level = any(tp.topic == topic for tp in self._flushes), self._levels.get(topic)
        if must_exist and not known:
            raise ArchiveUnavailableError(
                f"no commit of topic {topic!r} is announced on {self._source.commits.topic!r}: announce an archive that exists "
                "with announce_again(...), or read with index='both'."
            )
        if level is not None and level != isolation_level:
            raise ConfigError(
                f"topic {topic!r} is archived as {level}, the reader is {isolation_level}: what is seen would depend on the store. "
                f"Set Kafka's isolation_level to {level!r} (rule R4)."
            )

    def index(self, tp: TopicPartition, *, refresh: bool = False) -> FlushIndex:
        """The flushes that were announced; with index="both" those that are listed, too."""
        with self._lock:
            now = self._clock.monotonic()
            if refresh or self._asked_at is None or now - self._asked_at >= self._refresh_s:
                self._catch_up()
                self._asked_at = now
            if tp not in self._indexes:
                self._indexes[tp] = FlushIndex(self._flushes.get(tp, ()))
            announced = self._indexes[tp]
        if self._source.index == "announcements":
            return announced
        return FlushIndex({*announced, *self._listed.index(tp, refresh=refresh)})

    def open(self, tp: TopicPartition, flush: Flush, offset: int) -> CommittedFlush:
        """As `ConnectedArchive.open`."""
        return self._listed.open(tp, flush, offset)

    def open_ahead(self, tp: TopicPartition, flush: Flush, offset: int) -> Opening:
        """As `ConnectedArchive.open_ahead`."""
        return self._listed.open_ahead(tp, flush, offset)

    def url(self, tp: TopicPartition, flush: Flush) -> str:
        """As `ConnectedArchive.url`."""
        return self._listed.url(tp, flush)

    def close(self) -> None:
        """Disconnects."""
        self._listed.close()
        with self._lock:
            self._disconnect()
            self._asked_at = None

    # -- with the lock held

    def _disconnect(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            log.close()

    def _catch_up(self) -> None:
        """Reads the topic of commits up to its present end."""
        try:
            log = self._log = self._log or self._source.commits.kafka.connect()
            topic = self._source.commits.topic
            for tp in [TopicPartition(topic, number) for number in self._partitions(log, topic)]:
                self._read(log, tp, log.bounds(tp).stop)
        except BaseException:
            self._disconnect()
            raise

    @staticmethod
    def _partitions(log: KafkaLog, topic: str) -> tuple[int, ...]:
        try:
            return log.partitions(topic)
        except UnknownTopicError:
            return ()  # nothing was announced yet

    def _read(self, log: KafkaLog, tp: TopicPartition, stop: int) -> None:
        at = self._positions.get(tp)
        at = self._first(log, tp, stop) if at is None else at
        if at > stop:
            raise DataLossError(
                f"{tp} was read up to offset {at} and ends at {stop} now: the topic of commits was truncated or created anew. "
                "Start again, and announce what is in the archive with announce_again(...)."
            )
        while at < stop:
            fetched = log.fetch(tp, at, max_records=_FETCH_RECORDS, timeout_ms=_FETCH_MS)
            if isinstance(fetched, OutOfRange):
                self._deleted(tp, at, fetched.held.start)
                at = fetched.held.start
                continue
            if fetched.batch is not None:
                for offset, value in zip(fetched.batch.offsets(), fetched.batch.values(), strict=True):
                    if value is not None:
                        self._note(value, tp, offset)
            at = fetched.next_offset
            self._positions[tp] = at
        self._positions[tp] = at

    def _first(self, log: KafkaLog, tp: TopicPartition, stop: int) -> int:
        if self._source.since is None:
            start = log.bounds(tp).start
            if start > 0:
                self._deleted(tp, 0, start)
            return start
        found = log.offset_at(tp, instant_ms(self._source.since, "since"))
        return stop if found is None else found

    def _deleted(self, tp: TopicPartition, start: int, stop: int) -> None:
        """Compaction leaves the start of a log where it is: a retention has taken announcements. A listing has their flushes."""
        if self._source.index == "announcements":
            raise DataLossError(
                f"{tp}: announcements at offsets {start} to {stop - 1} were deleted: it has a retention, and flushes may be "
                "unknown. Set its cleanup.policy to compact and announce them with announce_again(...), then read with a `since` "
                "before that; or read with index='both'."
            )

    def _note(self, value: bytes, tp: TopicPartition, offset: int) -> None:
        found = announcements.decode(value, f"{tp} offset {offset}")
        self._flushes[found.tp].add(found.flush)
        self._levels[found.tp.topic] = found.isolation_level
        self._indexes.pop(found.tp, None)
