"""The snapshot file: JSON that a person can read and a version control system can compare. Pure.

    {"format": "beam_unified snapshot", "format_version": 1, "archive": "s3://bucket/root", "isolation_level": "read_committed",
     "topics": {"pins": {"0": {"start": 0, "stop": 100, "uncommitted": [], "flushes": [
        {"commit": {"path": .., "size_bytes": .., "sha256": ..}, "parts": [{"path": .., "size_bytes": .., "etag": ..}]}]}}}}

The same snapshot gives the same bytes. Later releases read every earlier version.
"""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from beam_unified.archive.layout import check_topic
from beam_unified.archive.pins import FingerprintKind, PinnedFile, PinnedFlush, PinnedPartition
from beam_unified.errors import ConfigError
from beam_unified.offsets import OffsetRange, TopicPartition

FORMAT = "beam_unified snapshot"
FORMAT_VERSION = 1

_T = TypeVar("_T")


def encode(root: str, isolation_level: str, partitions: Sequence[PinnedPartition]) -> bytes:
    """Deterministic, keys sorted."""
    topics: dict[str, dict[str, object]] = {}
    for one in partitions:
        topics.setdefault(one.tp.topic, {})[str(one.tp.partition)] = {
            "start": one.offsets.start,
            "stop": one.offsets.stop,
            "uncommitted": list(one.uncommitted),
            "flushes": [
                {"commit": _file(pinned.commit), "parts": [_file(part) for part in pinned.parts]}
                for pinned in one.flushes
            ],
        }
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "archive": root,
        "isolation_level": isolation_level,
        "topics": topics,
    }
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def decode(content: bytes, where: str) -> tuple[str, str, tuple[PinnedPartition, ...]]:
    """Root of the archive, isolation level, partitions sorted.

    Args:
        content: The bytes.
        where: The file, for errors.

    Raises:
        ConfigError: not a snapshot file, one that was edited badly, or one of a later release.
    """
    try:
        document: Any = json.loads(content)
        version = _version(document)
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{where} ({len(content)} bytes) is not a snapshot file ({_short(error)}): give the path of a file that "
            "Snapshot.save wrote."
        ) from error
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"{where} has format version {version}, this release of beam_unified reads {FORMAT_VERSION}: use the release that "
            "wrote it, or a later one."
        )
    try:
        partitions = [
            _partition(topic, number, one)
            for topic, numbers in _filled(_get(document, "topics", dict), "topics").items()
            for number, one in _filled(_as(numbers, dict, topic), topic).items()
        ]
        return (
            _get(document, "archive", str),
            _get(document, "isolation_level", str),
            tuple(sorted(partitions, key=lambda one: one.tp)),
        )
    except ValueError as error:
        raise ConfigError(f"{where} is a damaged snapshot file ({_short(error)}). Restore it from a copy.") from error


def _version(document: Any) -> int:
    if (found := _get(document, "format", str)) != FORMAT:
        raise ValueError(f"format should be {FORMAT!r}, found {found!r}")
    return _get(document, "format_version", int)


def _partition(topic: str, number: str, document: Any) -> PinnedPartition:
    if not (number.isdecimal() and str(int(number)) == number):
        raise ValueError(f"{number!r} is not the number of a partition")
    return PinnedPartition(
        tp=TopicPartition(check_topic(topic), int(number)),
        offsets=OffsetRange(_get(document, "start", int), _get(document, "stop", int)),
        flushes=tuple(
            PinnedFlush(
                commit=_pinned_file(_get(one, "commit", dict)),
                parts=tuple(_pinned_file(part) for part in _get(one, "parts", list)),
            )
            for one in _get(document, "flushes", list)
        ),
        uncommitted=tuple(_as(path, str, "uncommitted") for path in _get(document, "uncommitted", list)),
    )


def _filled(found: dict[str, Any], what: str) -> dict[str, Any]:
    if not found:
        raise ValueError(f"{what} should not be empty")
    return found


def _file(file: PinnedFile) -> dict[str, object]:
    return {"path": file.path, "size_bytes": file.size_bytes, file.kind: file.fingerprint}


def _pinned_file(document: Any) -> PinnedFile:
    kind: FingerprintKind = "etag" if "etag" in _as(document, dict, "a file") else "sha256"
    return PinnedFile(
        path=_get(document, "path", str),
        size_bytes=_get(document, "size_bytes", int),
        kind=kind,
        fingerprint=_get(document, kind, str),
    )


def _get(document: Any, key: str, kind: type[_T]) -> _T:
    return _as(_as(document, dict, "the document").get(key), kind, key)


def _as(found: object, kind: type[_T], what: str) -> _T:
    """A value of exactly this JSON type: true is not 1."""
    if type(found) is not kind:
        raise ValueError(f"{what} should be {kind.__name__}, found {type(found).__name__}")
    return found


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
