"""The archive as a snapshot pinned it: exactly those files, or an error that names what has changed (R9).

`PinnedArchive` is what a pipeline carries, `ConnectedPinnedArchive` what a worker holds. What is looked at when:

- `check`, once while the pipeline is built and once a worker: every pinned file is there and as long as it was, with the ETag
  it had where that was pinned, and nothing has been added. Listings alone, one request a day and thousand files.
- `open`, for each flush when it is read: the hash of its commit object, and ETag or hash of its data files. A large file pinned
  by its hash is read twice, the first time a worker opens it.

What nobody notices: a file replaced between the two requests that check and fetch it.
"""

import pickle
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa

from beam_unified.archive import commits
from beam_unified.archive.ahead import Opening, Threads
from beam_unified.archive.archive import Archive
from beam_unified.archive.pinning import list_files, sha256_of, sha256_of_file
from beam_unified.archive.pins import PinnedFlush, PinnedPartition, change, changes, serving
from beam_unified.archive.reader import CommittedFlush
from beam_unified.archive.storage import Storage
from beam_unified.errors import ConfigError, SnapshotChangedError
from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import TopicPartition

_SHOWN = 5
_REQUESTS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class PinnedArchive:
    """Implements `stores.ArchiveSource`. Frozen, picklable, without a connection.

    Args:
        archive: Where the files are.
        partitions: What is pinned of them.
        isolation_level: What the archive was written under.
    """

    archive: Archive
    partitions: tuple[PinnedPartition, ...] = field(repr=False)
    isolation_level: str

    def connect(self) -> "ConnectedPinnedArchive":
        """Opens the file system. Raises ConfigError where there is none for the root."""
        return ConnectedPinnedArchive(self)

    def __reduce__(self) -> tuple[Callable[..., "PinnedArchive"], tuple[Archive, bytes, str]]:
        """A pipeline holds several copies of its options, and runners limit its size: ten thousand paths compress well."""
        return _unpacked, (self.archive, zlib.compress(pickle.dumps(self.partitions)), self.isolation_level)


def _unpacked(archive: Archive, packed: bytes, isolation_level: str) -> PinnedArchive:
    return PinnedArchive(archive, pickle.loads(zlib.decompress(packed)), isolation_level)  # noqa: S301 - our own bytes


class ConnectedPinnedArchive:
    """The archive half of the log, as it was pinned; implements `stores.ArchiveLog`. Thread safe."""

    index_is_proof = True

    def __init__(self, pinned: PinnedArchive) -> None:
        """See `PinnedArchive.connect`."""
        self._isolation_level = pinned.isolation_level
        self._partitions = {partition.tp: partition for partition in pinned.partitions}
        self._storage = _PinnedStorage(pinned.archive, pinned.partitions)
        self._threads = Threads()
        self._indexes: dict[TopicPartition, FlushIndex] = {}
        self._flushes: dict[tuple[TopicPartition, Flush], PinnedFlush] = {}
        for tp, partition in self._partitions.items():
            by_flush = {one.flush: one for one in partition.flushes}
            pieces, _ = serving(by_flush, partition.offsets)
            self._indexes[tp] = FlushIndex(piece.as_flush() for piece in pieces)
            self._flushes.update(((tp, piece.as_flush()), by_flush[piece.flush]) for piece in pieces)

    def check(self, topic: str, *, isolation_level: str, must_exist: bool = True) -> None:
        """Compares what is there with what was pinned.

        Raises:
            SnapshotChangedError: a file of the topic is missing, of another size or ETag, or came into the pinned ranges.
            ConfigError: a topic that the snapshot does not hold, or another isolation level.
            ArchiveUnavailableError: the storage does not answer.
        """
        del must_exist
        partitions = [partition for tp, partition in self._partitions.items() if tp.topic == topic]
        if not partitions:
            raise ConfigError(f"the snapshot does not hold topic {topic!r}, but {', '.join(self._topics())}.")
        if isolation_level != self._isolation_level:
            raise ConfigError(
                f"the snapshot was taken as {self._isolation_level}, the reader is {isolation_level} (R4)."
            )
        folders = set[str]().union(*(partition.folders() for partition in partitions))
        listed = list_files(self._storage, topic, folders)
        found = changes(partitions, listed)
        if shown := [f"{self._storage.url(f'{topic}/{path}')} {what}" for path, what in islice(found, _SHOWN)]:
            raise _changed(topic, shown, more=sum(1 for _ in found))

    def index(self, tp: TopicPartition, *, refresh: bool = False) -> FlushIndex:
        """The pinned flushes, cut so that they do not overlap. Never listed anew."""
        del refresh
        return self._indexes.get(tp, FlushIndex())

    def open(self, tp: TopicPartition, flush: Flush, offset: int) -> CommittedFlush:
        """Opens a flush of the index at the first record >= `offset`.

        Raises:
            SnapshotChangedError: one of its files is not the pinned one.
            CorruptArchiveError: its files are not what its commit says.
            ArchiveUnavailableError: the storage does not answer.
        """
        commit = self._flushes[tp, flush].commit
        content = self._storage.get(f"{tp.topic}/{commit.path}")
        decoded = commits.decode(content, f"{tp}: {self._storage.url(f'{tp.topic}/{commit.path}')}")
        return CommittedFlush(self._storage, tp, decoded, max(offset, flush.start), self._threads)

    def open_ahead(self, tp: TopicPartition, flush: Flush, offset: int) -> Opening:
        """`open`, in a thread; implements `stores.OpensAhead`."""
        return Opening(self._threads, lambda: self.open(tp, flush, offset))

    def url(self, tp: TopicPartition, flush: Flush) -> str:
        """Of the commit object that the flush is, or is cut from."""
        return self._storage.url(f"{tp.topic}/{self._flushes[tp, flush].commit.path}")

    def close(self) -> None:
        """Ends the threads that read ahead."""
        self._threads.close()

    def _topics(self) -> list[str]:
        return sorted({tp.topic for tp in self._partitions})


def _changed(topic: str, what: Sequence[str], *, more: int = 0) -> SnapshotChangedError:
    """The error about changed files of a topic."""
    rest = f"; and {more} more" if more else ""
    return SnapshotChangedError(
        f"topic {topic!r} is no longer what the snapshot pinned: {'; '.join(what)}{rest}. Restore what was there from a copy "
        "and remove what was added; or take a new snapshot, if the change was meant."
    )


class _PinnedStorage(Storage):
    """The archive's folder, from which only pinned files are read, each compared with its pin."""

    def __init__(self, archive: Archive, partitions: Sequence[PinnedPartition]) -> None:
        super().__init__(archive.root, archive.storage_options)
        self._pins = {f"{one.tp.topic}/{file.path}": file for one in partitions for file in one.files()}
        self._hashed: set[str] = set()

    def get(self, path: str) -> bytes:
        """A whole file; raises SnapshotChangedError where it is missing or another than was pinned."""
        (content,) = self.get_all([path])
        assert content is not None, "what is missing is an error"
        return content

    def get_all(self, paths: Sequence[str]) -> list[bytes | None]:
        """Whole files; raises SnapshotChangedError where one is missing or another than was pinned."""
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
            list(threads.map(self._check_etag, paths))
        return [self._checked(path, content) for path, content in zip(paths, super().get_all(paths), strict=True)]

    def open(self, path: str) -> tuple[pa.NativeFile, int]:
        """A file to read piece by piece; raises SnapshotChangedError where it is missing or another than was pinned."""
        self._check_etag(path)
        try:
            file, size = super().open(path)
        except FileNotFoundError:
            raise self._changed(path, "is missing") from None
        if path not in self._hashed:
            try:
                self._check_hash(path, lambda: sha256_of_file(file))
                file.seek(0)
            except BaseException:
                file.close()
                raise
            self._hashed.add(path)
        return file, size

    def _checked(self, path: str, content: bytes | None) -> bytes:
        if content is None:
            raise self._changed(path, "is missing")
        self._check_hash(path, lambda: sha256_of(content))
        return content

    def _check_etag(self, path: str) -> None:
        pin = self._pins[path]
        if pin.kind == "etag":
            try:
                what = change(pin, self.info(path))
            except FileNotFoundError:
                what = change(pin, None)
            if what is not None:
                raise self._changed(path, what)

    def _check_hash(self, path: str, hashed: Callable[[], str]) -> None:
        pin = self._pins[path]
        if pin.kind == "sha256" and (found := hashed()) != pin.fingerprint:
            raise self._changed(path, f"was replaced: its SHA-256 is {found}, the snapshot says {pin.fingerprint}")

    def _changed(self, path: str, what: str) -> SnapshotChangedError:
        return _changed(path.partition("/")[0], [f"{self.url(path)} {what}"])
