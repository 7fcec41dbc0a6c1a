"""Where an archive is, and the connection to it: the edge at which file systems are touched and their errors become ours.

Any fsspec file system works. Listings are fsspec's business except that its cache is turned off: an archive grows
while it is read.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError
from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.utils import get_protocol

from beam_unified.archive import commits, layout
from beam_unified.archive.commits import Commit, Part
from beam_unified.archive.reader import CommittedFlush
from beam_unified.errors import ArchiveUnavailableError, ConfigError, CorruptArchiveError
from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import TopicPartition

_LOGGER = logging.getLogger(__name__)
_T = TypeVar("_T")

_WHOLE_FILE_BYTES = 64 * 1024 * 1024  # up to here one GET brings a whole part
_READ_AHEAD_BYTES = 16 * 1024 * 1024

# A wrong endpoint is an error in seconds; botocore's defaults wait for minutes.
_S3_CONFIG: Mapping[str, object] = {"connect_timeout": 5, "read_timeout": 30, "retries": {"max_attempts": 3}}


@dataclass(frozen=True)
class Archive:
    """Where the archive is. Frozen, picklable, without a connection.

    Args:
        root: fsspec URL of the folder above the topics: "s3://bucket/merced", "gs://...", "/data/archive", "memory://a".
        storage_options: Passed to fsspec: credentials, endpoint. Copied. Their values never appear in a repr, a log or
            an error.

    Raises:
        ConfigError: a root without a known protocol, or with credentials in it.
    """

    root: str
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.root:
            raise ConfigError("the archive's root is empty: pass a URL such as 's3://bucket/folder'.")
        if "@" in self.root.partition("://")[2].partition("/")[0]:
            raise ConfigError(
                "the archive's root holds credentials: pass them in storage_options, which are never shown."
            )
        object.__setattr__(self, "storage_options", dict(self.storage_options))

    def connect(self) -> "ConnectedArchive":
        """Opens the file system. Raises ArchiveUnavailableError."""
        return ConnectedArchive(self)

    def file_system(self) -> tuple[AbstractFileSystem, str]:
        """The file system, and the root's path on it. For this package's writers."""
        options = {"use_listings_cache": False, **self.storage_options}
        protocol = get_protocol(self.root)
        if protocol in {"s3", "s3a"}:
            options["config_kwargs"] = {**_S3_CONFIG, **options.get("config_kwargs", {})}
        if protocol in {"file", "local"}:
            options["auto_mkdir"] = True
        try:
            file_system, path = url_to_fs(self.root, **options)
        except (ValueError, ImportError) as error:
            raise ConfigError(f"archive {self.root}: {error}") from error
        return file_system, str(path).rstrip("/")


class ConnectedArchive:
    """The archive half of the log; implements `stores.ArchiveLog`. Thread safe."""

    def __init__(self, archive: Archive) -> None:
        """See `Archive.connect`."""
        self._root = archive.root.rstrip("/")
        self._files, self._path = archive.file_system()
        self._lock = threading.Lock()
        self._indexes: dict[TopicPartition, FlushIndex] = {}
        self._isolation_level: str | None = None

    def check(self, topic: str, *, isolation_level: str) -> None:
        """Raises where this archive cannot serve the topic."""
        folder = f"{layout.check_topic(topic)}/_commits"
        try:
            partitions = self._guarded(folder, lambda: self._files.ls(f"{self._path}/{folder}", detail=False))
        except FileNotFoundError as error:
            raise ArchiveUnavailableError(
                f"no archive of topic {topic!r}: {self._root}/{folder} does not exist ({error}). Check the bucket and the "
                "folder above the topic; pass archive=None to read Kafka only."
            ) from error
        self._isolation_level = isolation_level
        for path in partitions:
            partition = path.rstrip("/").rpartition("/")[2]
            if partition.isdecimal():
                tp = TopicPartition(topic, int(partition))
                for flush in list(self.index(tp))[-1:]:
                    self._read_commit(tp, flush)
                    return

    def index(self, tp: TopicPartition, *, refresh: bool = False) -> FlushIndex:
        """The committed flushes, by listing their commit objects; no file is opened."""
        with self._lock:
            cached = self._indexes.get(tp)
        if cached is not None and not refresh:
            return cached
        folder = f"{layout.check_topic(tp.topic)}/{layout.commits_folder(tp.partition)}"
        try:
            paths = self._guarded(folder, lambda: self._files.ls(f"{self._path}/{folder}", detail=False))
        except FileNotFoundError:
            paths = []  # a partition without a flush: `check` has seen that the topic is there
        flushes = []
        for path in paths:
            name = path.rpartition("/")[2]
            flush = layout.parse_commit(name)
            if flush is None:
                _LOGGER.debug("%s: %s/%s/%s is not a commit object, left alone", tp, self._root, folder, name)
            else:
                flushes.append(flush)
        index = FlushIndex(flushes)
        with self._lock:
            self._indexes[tp] = index
        return index

    def open(self, tp: TopicPartition, flush: Flush, offset: int) -> CommittedFlush:
        """Opens a flush at the first record >= `offset`.

        Raises:
            CorruptArchiveError: what is there is not what the commit says.
        """
        commit = self._read_commit(tp, flush)
        reader = CommittedFlush(
            tp, commit, lambda part: self._open_part(tp, part), lambda path: f"{self._root}/{tp.topic}/{path}"
        )
        try:
            return reader.starting_at(offset)
        except BaseException:
            reader.close()
            raise

    def close(self) -> None:
        """Forgets the listings."""
        with self._lock:
            self._indexes.clear()

    def _read_commit(self, tp: TopicPartition, flush: Flush) -> Commit:
        path = f"{tp.topic}/{layout.commits_folder(tp.partition)}/{layout.commit_name(flush)}"
        shown = f"{self._root}/{path}"
        try:
            content = self._guarded(path, lambda: self._files.cat_file(f"{self._path}/{path}"))
        except FileNotFoundError as error:
            raise CorruptArchiveError(f"{tp}: {shown} was listed and is gone: somebody removed the flush.") from error
        commit = commits.decode(content, shown)
        if (commit.topic, commit.partition, commit.flush) != (tp.topic, tp.partition, flush):
            raise CorruptArchiveError(
                f"{shown} is the commit of {commit.topic}[{commit.partition}] offsets [{commit.flush.start}, "
                f"{commit.flush.stop}), not of {tp} {flush.start} to {flush.stop}: it was copied or renamed. Remove it."
            )
        if self._isolation_level is not None and commit.isolation_level != self._isolation_level:
            raise ConfigError(
                f"{shown} was archived as {commit.isolation_level}, the reader is {self._isolation_level}: what is seen "
                f"would depend on the store. Set Kafka's isolation_level to {commit.isolation_level!r} (rule R4)."
            )
        return commit

    def _open_part(self, tp: TopicPartition, part: Part) -> pa.NativeFile:
        path = f"{self._path}/{tp.topic}/{part.path}"
        shown = f"{self._root}/{tp.topic}/{part.path}"
        try:
            if part.size_bytes <= _WHOLE_FILE_BYTES:
                content = self._guarded(part.path, lambda: self._files.cat_file(path))
                self._check_size(tp, shown, len(content), part)
                return pa.BufferReader(content)
            self._check_size(tp, shown, self._guarded(part.path, lambda: self._files.size(path)), part)
            opened = self._guarded(
                part.path,
                lambda: self._files.open(path, "rb", block_size=_READ_AHEAD_BYTES, cache_type="readahead"),
            )
            return pa.PythonFile(opened, mode="r")
        except FileNotFoundError as error:
            raise CorruptArchiveError(
                f"{tp}: {shown} is missing, although its flush is committed: restore it, or remove the flush's commit object."
            ) from error

    def _check_size(self, tp: TopicPartition, shown: str, size: int, part: Part) -> None:
        if size != part.size_bytes:
            raise CorruptArchiveError(
                f"{tp}: {shown} has {size} bytes, its commit says {part.size_bytes}: it was truncated or replaced. "
                "Restore it from a copy, or remove the flush's commit object so that the flush counts as not there."
            )

    def _guarded(self, path: str, call: Callable[[], _T]) -> _T:
        """Runs a call of the file system. FileNotFoundError passes: the caller knows what it means."""
        try:
            return call()
        except FileNotFoundError:
            raise
        except PermissionError as error:
            raise ArchiveUnavailableError(
                f"{self._root}/{path}: access denied. Check the credentials in storage_options and the permission to list "
                "and to read."
            ) from error
        except (OSError, BotoCoreError, ClientError) as error:
            raise ArchiveUnavailableError(
                f"{self._root}/{path}: the storage does not answer as it should ({type(error).__name__}). Check the "
                "endpoint, the region and the credentials in storage_options."
            ) from error
