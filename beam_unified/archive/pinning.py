"""Pins what an archive holds of a topic's ranges, for a snapshot: lists, reads commit objects, and hashes where it must.

Called by `snapshots.capture`. Reads only; what is compared with it later is decided in `pins`.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from beam_unified.archive import layout
from beam_unified.archive.archive import checked_commit
from beam_unified.archive.commits import Commit
from beam_unified.archive.pins import FingerprintKind, PinnedFile, PinnedFlush, PinnedPartition, inside, overlaps
from beam_unified.archive.storage import FileInfo, Storage
from beam_unified.errors import ConfigError, CorruptArchiveError
from beam_unified.flushes import Flush
from beam_unified.offsets import OffsetRange, TopicPartition

_REQUESTS_AT_ONCE = 8
_HASHED_AT_ONCE_BYTES = 8 * 1024 * 1024


def sha256_of(content: bytes) -> str:
    """In hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(file: pa.NativeFile) -> str:
    """Of what an open file holds from where it stands, read piece by piece."""
    digest = hashlib.sha256()
    while piece := file.read(_HASHED_AT_ONCE_BYTES):
        digest.update(piece)
    return digest.hexdigest()


def list_files(storage: Storage, topic: str, folders: Iterable[str]) -> dict[str, FileInfo]:
    """Every file in some folders of a topic, by its path relative to the topic's folder.

    A request a folder and thousand files, several at once: days rather than hours, and never one a file.
    """
    wanted = sorted(folders)
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
        found = threads.map(lambda folder: storage.files(f"{topic}/{folder}"), wanted)
        return {
            f"{folder}/{name}": info
            for folder, files in zip(wanted, found, strict=True)
            for name, info in files.items()
        }


def pin_topic(
    storage: Storage,
    topic: str,
    ranges: Mapping[int, tuple[OffsetRange, Sequence[Flush]]],
    *,
    isolation_level: str,
    fingerprint: FingerprintKind | None,
) -> list[PinnedPartition]:
    """Pins every committed flush of some partitions that has an offset of the range to be pinned.

    Args:
        storage: The archive's.
        topic: Name of the topic.
        ranges: Partition -> the range, and every committed flush of the partition. Those of the range cover it.
        isolation_level: What every flush must have been archived under.
        fingerprint: What data files are pinned by; None takes the ETag where the storage has them, else the hash.

    Raises:
        CorruptArchiveError: a commit object that cannot be read, or a data file that is not there.
        ConfigError: another isolation level; ETags wanted on a storage without.
    """
    wanted = [
        (TopicPartition(topic, partition), flush)
        for partition, (offsets, flushes) in sorted(ranges.items())
        for flush in flushes
        if overlaps(flush, offsets)
    ]
    decoded, pinned_commits = _read_commits(storage, wanted, isolation_level)
    paths = [part.path for commit in decoded for part in commit.parts]
    listed = list_files(
        storage, topic, {*(path.partition("/")[0] for path in paths), *map(layout.commits_folder, ranges)}
    )
    parts = dict(zip(paths, _pinned_files(storage, topic, paths, listed, fingerprint), strict=True))
    flushes = [
        PinnedFlush(commit=pinned, parts=tuple(parts[part.path] for part in commit.parts))
        for commit, pinned in zip(decoded, pinned_commits, strict=True)
    ]
    return [
        PinnedPartition(
            tp=TopicPartition(topic, partition),
            offsets=offsets,
            flushes=tuple(one for one, (tp, _) in zip(flushes, wanted, strict=True) if tp.partition == partition),
            uncommitted=_uncommitted(partition, offsets, listed, parts.keys()),
        )
        for partition, (offsets, _) in sorted(ranges.items())
    ]


def _uncommitted(
    partition: int, offsets: OffsetRange, listed: Mapping[str, FileInfo], committed: Iterable[str]
) -> tuple[str, ...]:
    """Data files of a range that no commit object names."""
    known = set(committed)
    return tuple(
        sorted(
            path
            for path in listed
            if path not in known and layout.parse_part(path) is not None and inside(path, {partition: offsets})
        )
    )


def _read_commits(
    storage: Storage, wanted: Sequence[tuple[TopicPartition, Flush]], isolation_level: str
) -> tuple[list[Commit], list[PinnedFile]]:
    """Commit objects, all fetched side by side, and their pins."""
    paths = [f"{layout.commits_folder(tp.partition)}/{layout.commit_name(flush)}" for tp, flush in wanted]
    contents = storage.get_all([f"{tp.topic}/{path}" for (tp, _), path in zip(wanted, paths, strict=True)])
    decoded, pinned = list[Commit](), list[PinnedFile]()
    for (tp, flush), path, content in zip(wanted, paths, contents, strict=True):
        where = f"{tp}: {storage.url(f'{tp.topic}/{path}')}"
        if content is None:
            raise CorruptArchiveError(
                f"{where} was listed and is gone: somebody removed the flush. Take the snapshot again."
            )
        decoded.append(checked_commit(content, where, tp, flush, isolation_level))
        pinned.append(PinnedFile(path=path, size_bytes=len(content), kind="sha256", fingerprint=sha256_of(content)))
    return decoded, pinned


def _pinned_files(
    storage: Storage,
    topic: str,
    paths: Sequence[str],
    listed: Mapping[str, FileInfo],
    fingerprint: FingerprintKind | None,
) -> list[PinnedFile]:
    for path in paths:
        if path not in listed:
            raise CorruptArchiveError(
                f"{storage.url(f'{topic}/{path}')} is missing, although its flush is committed: restore it from a copy, or "
                "remove the flush's commit object so that the flush counts as not there."
            )
    with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
        return list(threads.map(lambda path: _pinned_file(storage, topic, path, listed[path], fingerprint), paths))


def _pinned_file(
    storage: Storage, topic: str, path: str, info: FileInfo, fingerprint: FingerprintKind | None
) -> PinnedFile:
    if fingerprint == "etag" and info.etag is None:
        raise ConfigError(f"{storage.url(topic)}: this storage has no ETags. Capture with fingerprint='sha256'.")
    if info.etag is not None and fingerprint != "sha256":
        return PinnedFile(path=path, size_bytes=info.size_bytes, kind="etag", fingerprint=info.etag)
    file, size = storage.open(f"{topic}/{path}")
    try:
        return PinnedFile(path=path, size_bytes=size, kind="sha256", fingerprint=sha256_of_file(file))
    finally:
        file.close()
