"""Where an archive is, and the connection to it: listings of commit objects, and opening one flush.

`Archive` is what a pipeline carries, `ConnectedArchive` what a worker holds. Storage is touched in `storage` only, and
the content of a flush is the business of `reader`.
"""

import logging
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fsspec import AbstractFileSystem

from beam_unified.archive import commits, layout
from beam_unified.archive.ahead import Opening, Threads
from beam_unified.archive.commits import Commit
from beam_unified.archive.foreign.connected import ForeignArchive
from beam_unified.archive.foreign.layout import LACKS, Lack, Layout
from beam_unified.archive.reader import CommittedFlush
from beam_unified.archive.storage import Storage, holds_credentials, open_file_system
from beam_unified.clock import SYSTEM_CLOCK, Clock
from beam_unified.errors import ArchiveUnavailableError, ConfigError, CorruptArchiveError
from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import TopicPartition
from beam_unified.stores import ArchiveLog

_LOGGER = logging.getLogger(__name__)

_GONE = "was listed and is gone: somebody removed the flush. Run again to read without it."
_CHECK_TIMEOUT_S = 20.0  # a check while a pipeline is built: somebody is waiting
_TOPICS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Archive:
    """Where the archive is. Frozen, picklable, without a connection.

    Args:
        root: fsspec URL of the folder above the topics: "s3://bucket/merced", "gs://...", "/data/archive", "memory://a".
        storage_options: Passed to fsspec: credentials, endpoint. Copied. Their values never appear in a repr, a log or
            an error; one may be a `Secret`, which each worker looks up.
        refresh_interval: A worker's listing of a partition that is older is continued behind its last flush when it is next
            asked for. All of it is listed anew, however young, before an offset is believed to be missing.
        layout: Of an archive that another tool wrote, which is only read: `Secor()`, ... (docs/foreign-archives.md); None is ours.
        accept_missing: What the layout lacks and the pipeline can do without: "key", "timestamp", "headers" are then None, or
            no headers, in the `Record`s that come from the archive. Otherwise output="record" is refused for such a layout.

    Raises:
        ConfigError: a root that is empty or holds credentials, or an option that is the wrong kind of thing.
    """

    root: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    refresh_interval: timedelta = field(default=timedelta(seconds=30), kw_only=True)
    layout: Layout | None = field(default=None, kw_only=True)
    accept_missing: Collection[Lack] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if not _is(str, self.root) or not self.root:
            raise ConfigError("the archive's root is a URL such as 's3://bucket/folder', and is not empty.")
        if holds_credentials(self.root):
            raise ConfigError(
                "the archive's root holds credentials: pass them in storage_options, which are never shown."
            )
        if not _is(Mapping, self.storage_options):
            raise ConfigError(
                f"storage_options of archive {self.root} is a dict such as {{'anon': True}}, "
                f"got {type(self.storage_options).__name__}."
            )
        if not _is(timedelta, self.refresh_interval) or self.refresh_interval < timedelta(0):
            raise ConfigError(f"refresh_interval is a timedelta of 0 or more, got {self.refresh_interval!r}.")
        if self.layout is not None and (isinstance(self.layout, type) or not _is(Layout, self.layout)):
            raise ConfigError(f"layout is a layout such as Secor(), or None for our own, got {self.layout!r}.")
        if isinstance(self.accept_missing, str) or not set(self.accept_missing) <= set(LACKS):
            raise ConfigError(f"accept_missing is some of {', '.join(LACKS)}, got {self.accept_missing!r}.")
        object.__setattr__(self, "storage_options", dict(self.storage_options))
        object.__setattr__(self, "accept_missing", frozenset(self.accept_missing))

    @property
    def lacks(self) -> frozenset[Lack]:
        """What its records do not have (rule A3)."""
        return frozenset() if self.layout is None else self.layout.lacks

    def connect(self) -> ArchiveLog:
        """Opens the file system. Raises ConfigError where there is none for the root."""
        if self.layout is None:
            return ConnectedArchive(self)
        return ForeignArchive(
            self.root,
            self.storage_options,
            self.layout,
            refresh_interval=self.refresh_interval,
            clock=SYSTEM_CLOCK,
        )

    def storage(self) -> Storage:
        """The folder above the topics, of our own layout. For this package's readers and writers.

        Raises:
            ConfigError: the archive is of another tool.
        """
        if self.layout is not None:
            raise ConfigError(
                f"archive {self.root} has the layout {self.layout!r}, which is only read: writing, announcing, tidying and "
                "snapshots need an archive in our own layout (ArchiveTopic writes one)."
            )
        return Storage(self.root, self.storage_options)

    def file_system(self) -> tuple[AbstractFileSystem, str]:
        """The bare file system, and the root's path on it. For tests and tools: its errors are its own."""
        return open_file_system(self.root, self.storage_options)


def _is(kind: type, value: object) -> bool:
    """isinstance, for options of users without a type checker."""
    return isinstance(value, kind)


@dataclass(slots=True)
class _Listing:
    """A partition's index and when it was asked for; the lock keeps threads from listing the same folder at once."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    index: FlushIndex | None = None
    asked_at: float = 0.0


class ConnectedArchive:
    """The archive half of the log; implements `stores.ArchiveLog`. Thread safe."""

    index_is_proof = True

    def __init__(self, archive: Archive, clock: Clock = SYSTEM_CLOCK, *, gone: str = _GONE) -> None:
        """See `Archive.connect`; `gone` is what is said of a flush that is in the index and not in the storage."""
        self._gone = gone
        self._storage = archive.storage()
        self._refresh_s = archive.refresh_interval.total_seconds()
        self._clock = clock
        self._threads = Threads()
        self._lock = threading.Lock()
        self._listings: dict[TopicPartition, _Listing] = {}
        self._isolation_levels: dict[str, str] = {}

    def check(self, topic: str, *, isolation_level: str, must_exist: bool = True) -> None:
        """Raises where this archive cannot serve the topic; remembers the isolation level for every flush opened."""
        folder = f"{layout.check_topic(topic)}/{layout.commits_folder()}"
        try:
            names = self._storage.names(folder, timeout_s=_CHECK_TIMEOUT_S)
        except FileNotFoundError:
            if must_exist:
                raise self._no_archive(topic, folder) from None
            names = []
        self.expect(topic, isolation_level)
        for partition in sorted(found for name in names if (found := layout.parse_partition(name)) is not None):
            tp = TopicPartition(topic, partition)
            newest = max(self.index(tp), key=lambda flush: flush.stop, default=None)
            if newest is not None:
                self._read_commit(tp, newest)
                return

    def expect(self, topic: str, isolation_level: str) -> None:
        """Remembers the isolation level that every flush opened must have; `check` without a listing."""
        with self._lock:
            self._isolation_levels[topic] = isolation_level

    def index(self, tp: TopicPartition, *, refresh: bool = False) -> FlushIndex:
        """The committed flushes, by listing their commit objects; no file is opened.

        A listing that has aged is continued behind its last flush; with `refresh` all of it is made anew (R3).
        """
        asked_at = self._clock.monotonic()
        with self._lock:
            listing = self._listings.setdefault(tp, _Listing())
        with listing.lock:
            if listing.index is not None:
                age = asked_at - listing.asked_at
                if age < 0 or (not refresh and age < self._refresh_s):  # below 0: listed while we waited for the lock
                    return listing.index
            listed_at = self._clock.monotonic()
            listing.index = self._list(tp, None if refresh else listing.index)
            listing.asked_at = listed_at
            return listing.index

    def open(self, tp: TopicPartition, flush: Flush, offset: int) -> CommittedFlush:
        """Opens a flush at the first record >= `offset`.

        Raises:
            CorruptArchiveError: what is there is not what the commit says.
            ConfigError: it was archived under another isolation level than `check` was told.
            ArchiveUnavailableError: the storage does not answer.
        """
        return CommittedFlush(self._storage, tp, self._read_commit(tp, flush), offset, self._threads)

    def open_ahead(self, tp: TopicPartition, flush: Flush, offset: int) -> Opening:
        """`open`, in a thread; implements `stores.OpensAhead`."""
        return Opening(self._threads, lambda: self.open(tp, flush, offset))

    def url(self, tp: TopicPartition, flush: Flush) -> str:
        """Of the commit object."""
        return self._storage.url(_commit_path(tp, flush))

    def close(self) -> None:
        """Forgets the listings and ends the threads that read ahead."""
        self._threads.close()
        with self._lock:
            self._listings.clear()

    def _list(self, tp: TopicPartition, known: FlushIndex | None) -> FlushIndex:
        folder = f"{layout.check_topic(tp.topic)}/{layout.commits_folder(tp.partition)}"
        flushes = list(known or ())
        try:
            names = (
                self._storage.names_after(folder, layout.commit_name(flushes[-1]))
                if flushes
                else self._storage.names(folder)
            )
        except FileNotFoundError:
            names = []  # a partition without a flush: `check` has seen that the topic is there
        for name in names:
            flush = layout.parse_commit(name)
            if flush is None:
                _LOGGER.debug("%s: %s/%s is not a commit object, left alone", tp, self._storage.url(folder), name)
            else:
                flushes.append(flush)
        return FlushIndex(flushes)

    def _read_commit(self, tp: TopicPartition, flush: Flush) -> Commit:
        where = f"{tp}: {self.url(tp, flush)}"
        try:
            content = self._storage.get(_commit_path(tp, flush))
        except FileNotFoundError:
            with self._lock:
                self._listings.pop(tp, None)  # whoever tries again sees what is there now
            raise CorruptArchiveError(f"{where} {self._gone}") from None
        return checked_commit(content, where, tp, flush, self._isolation_levels.get(tp.topic))

    def _no_archive(self, topic: str, folder: str) -> ArchiveUnavailableError:
        """The error, with what is there instead: it tells a wrong bucket from a wrong folder from a wrong topic."""
        try:
            there = sorted(name for name in self._storage.names("", timeout_s=_CHECK_TIMEOUT_S) if name != topic)
        except FileNotFoundError as error:
            found = f"{self._storage.url('')} is not there either ({self._storage.shown(error)})"
        else:
            more = ", ..." if len(there) > _TOPICS_SHOWN else ""
            found = f"{self._storage.url('')} holds {', '.join(there[:_TOPICS_SHOWN]) or 'no other topic'}{more}"
        return ArchiveUnavailableError(
            f"no archive of topic {topic!r}: {self._storage.url(folder)} does not exist; {found}. Check the bucket and the "
            "folder above the topic; to read Kafka only, leave the archive out (archive=None, --kafka-only)."
        )


def _commit_path(tp: TopicPartition, flush: Flush) -> str:
    return f"{tp.topic}/{layout.commits_folder(tp.partition)}/{layout.commit_name(flush)}"


def checked_commit(content: bytes, where: str, tp: TopicPartition, flush: Flush, isolation_level: str | None) -> Commit:
    """Reads the commit object of a flush.

    Args:
        content: The bytes.
        where: Partition and path, for errors.
        tp: Whose it should be.
        flush: Which it should be.
        isolation_level: What the reader's is; None where that is not known yet.

    Raises:
        CorruptArchiveError: it is no commit object, or that of another flush.
        ConfigError: the flush was archived under another isolation level.
    """
    commit = commits.decode(content, where)
    if (commit.topic, commit.partition, commit.flush) != (tp.topic, tp.partition, flush):
        raise CorruptArchiveError(
            f"{where} is the commit of {commit.topic}[{commit.partition}] offsets [{commit.flush.start}, "
            f"{commit.flush.stop}), not of {tp} [{flush.start}, {flush.stop}): it was copied or renamed. Remove it."
        )
    if isolation_level is not None and commit.isolation_level != isolation_level:
        raise ConfigError(
            f"{where} was archived as {commit.isolation_level}, the reader is {isolation_level}: what is seen would depend on "
            f"the store. Set Kafka's isolation_level to {commit.isolation_level!r} (rule R4)."
        )
    return commit
