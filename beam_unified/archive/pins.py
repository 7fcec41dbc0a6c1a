"""What a snapshot pins of an archive, and how that differs from what is there. Pure values and decisions.

Made by `pinning`, read by `pinned`, written down by `snapshots.codec`. Nothing here touches a storage.

A commit object is small and read whenever its flush is, so it is always pinned by the hash of its content; a data file by
its ETag, which every listing tells, or by the hash of its content, which costs a read and holds for every copy.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from beam_unified.archive import layout
from beam_unified.archive.storage import FileInfo
from beam_unified.flushes import Flush, FlushIndex
from beam_unified.offsets import OffsetRange, TopicPartition

FingerprintKind = Literal["etag", "sha256"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFile:
    """One file.

    Attributes:
        path: Relative to the topic's folder.
        size_bytes: Its size.
        kind: What `fingerprint` is: the object store's ETag, or SHA-256 of the content in hexadecimal digits.
        fingerprint: What tells it from another file of this name and size.
    """

    path: str
    size_bytes: int
    kind: FingerprintKind
    fingerprint: str

    def __post_init__(self) -> None:
        if self.kind not in {"etag", "sha256"} or not self.fingerprint:
            raise ValueError(f"{self.path} needs an etag or a sha256")
        if self.size_bytes < 0:
            raise ValueError(f"size_bytes of {self.path} is not negative, got {self.size_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedFlush:
    """A committed flush: its commit object and its data files."""

    commit: PinnedFile
    parts: tuple[PinnedFile, ...]

    def __post_init__(self) -> None:
        folder, _, name = self.commit.path.rpartition("/")
        if layout.parse_commit(name) is None or layout.parse_partition(folder.removeprefix("_commits/")) is None:
            raise ValueError(f"{self.commit.path!r} is not the path of a commit object")
        if self.commit.kind != "sha256":
            raise ValueError(f"{self.commit.path} needs a sha256")
        for part in self.parts:
            if layout.parse_part(part.path) is None:  # also keeps a forged snapshot from pointing elsewhere
                raise ValueError(f"{part.path!r} is not the path of a data file")

    @property
    def flush(self) -> Flush:
        """Range and times, as the commit object's name says them."""
        found = layout.parse_commit(self.commit.path.rpartition("/")[2])
        assert found is not None, "checked when it was made"
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedPartition:
    """One partition's part of a snapshot.

    Attributes:
        tp: Which partition.
        offsets: The pinned range.
        flushes: Every committed flush with an offset of the range, by start. Together they cover it.
        uncommitted: Data files of the range without a commit object that lay there already: not part of the log (A1).
    """

    tp: TopicPartition
    offsets: OffsetRange
    flushes: tuple[PinnedFlush, ...]
    uncommitted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        folder = layout.commits_folder(self.tp.partition)
        for pinned in self.flushes:
            if pinned.commit.path.rpartition("/")[0] != folder:
                raise ValueError(f"{pinned.commit.path} is not a commit object of {self.tp}")
        _, missing = serving((pinned.flush for pinned in self.flushes), self.offsets)
        if missing:
            raise ValueError(f"{self.tp}: no pinned flush covers {missing[0]}")

    def files(self) -> Iterator[PinnedFile]:
        """Commit objects and data files."""
        for pinned in self.flushes:
            yield pinned.commit
            yield from pinned.parts

    def folders(self) -> set[str]:
        """The folders, relative to the topic's, in which its files lie: of the commit objects, and of every day."""
        days = {part.path.partition("/")[0] for pinned in self.flushes for part in pinned.parts}
        return {layout.commits_folder(self.tp.partition), *days}


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a pinned range that one flush serves: from `start` to the flush's end."""

    start: int
    flush: Flush

    def as_flush(self) -> Flush:
        """As a flush that begins where the piece does."""
        return Flush(self.start, self.flush.stop, self.flush.min_timestamp, self.flush.max_timestamp)


def serving(flushes: Iterable[Flush], offsets: OffsetRange) -> tuple[list[Piece], list[OffsetRange]]:
    """Which flush serves which stretch of a range, and what none covers.

    Pieces do not overlap although flushes may, so that wherever a reader is interrupted, the same file gives an offset (R9).
    """
    index, pieces, missing = FlushIndex(flushes), list[Piece](), list[OffsetRange]()
    at = offsets.start
    while at < offsets.stop:
        flush = index.covering(at)
        if flush is None:
            goes_on = index.next_start(at)
            stop = offsets.stop if goes_on is None else min(goes_on, offsets.stop)
            missing.append(OffsetRange(at, stop))
        else:
            pieces.append(Piece(at, flush))
            stop = flush.stop
        at = stop
    return pieces, missing


def overlaps(flush: Flush | layout.PartName, offsets: OffsetRange) -> bool:
    """Whether it covers an offset of the range."""
    return max(flush.start, offsets.start) < min(flush.stop, offsets.stop)


def inside(path: str, ranges: Mapping[int, OffsetRange]) -> bool:
    """Whether a path, relative to the topic's folder, is that of a commit object or data file with an offset of the ranges.

    Args:
        path: Whatever was found.
        ranges: Partition -> pinned range.
    """
    part = layout.parse_part(path)
    if part is not None:
        name, _ = part
        return name.partition in ranges and overlaps(name, ranges[name.partition])
    folder, _, file_name = path.rpartition("/")
    partition, flush = layout.parse_partition(folder.removeprefix("_commits/")), layout.parse_commit(file_name)
    if partition is None or flush is None or partition not in ranges:
        return False
    return overlaps(flush, ranges[partition])


def changes(partitions: Iterable[PinnedPartition], listed: Mapping[str, FileInfo]) -> Iterator[tuple[str, str]]:
    """How the files of a topic differ from what is pinned: (path, what happened), as far as a listing tells.

    Args:
        partitions: All pinned partitions of one topic.
        listed: What is there, in all of their `folders`; paths relative to the topic's folder.
    """
    known, ranges = set[str](), dict[int, OffsetRange]()
    for partition in partitions:
        ranges[partition.tp.partition] = partition.offsets
        known.update(partition.uncommitted)
        for file in partition.files():
            known.add(file.path)
            if (found := change(file, listed.get(file.path))) is not None:
                yield file.path, found
    for path in sorted(listed.keys() - known):
        if inside(path, ranges):
            yield path, "is additional: it came into the pinned offsets after the snapshot was taken"


def change(file: PinnedFile, found: FileInfo | None) -> str | None:
    """What happened to a file, as far as a listing tells; None where it is as it was."""
    if found is None:
        return "is missing"
    if found.size_bytes != file.size_bytes:
        return f"has {found.size_bytes} bytes, the snapshot says {file.size_bytes}: it was cut short or replaced"
    if file.kind == "etag" and found.etag is None:
        return "has no ETag to compare: it lies on another kind of storage than when the snapshot was taken"
    if file.kind == "etag" and found.etag != file.fingerprint:
        return f"was replaced: its ETag is {found.etag}, the snapshot says {file.fingerprint}"
    return None
