"""The commit object of a flush: JSON that a person can read. Pure; reading and writing it is done elsewhere.

A flush exists if and only if its commit object does. It says which files hold the records, so that a reader never lists
the hour folders, and what they must look like, so that a truncated or replaced file is noticed.
"""

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from beam_unified.archive import layout
from beam_unified.errors import CorruptArchiveError
from beam_unified.flushes import Flush

SCHEMA_VERSION = 1
ISOLATION_LEVELS = ("read_committed", "read_uncommitted")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A data file of a flush.

    Attributes:
        path: Relative to the topic's folder.
        size_bytes: Size of the file.
        rows: Number of records in it.
    """

    path: str
    size_bytes: int
    rows: int

    def __post_init__(self) -> None:
        if layout.parse_part(self.path) is None:  # also keeps a forged commit from pointing outside of the topic
            raise ValueError(f"{self.path!r} is not the path of a data file")
        if self.size_bytes < 0 or self.rows < 0:
            raise ValueError(f"size_bytes and rows of {self.path} are not negative, got {self.size_bytes}, {self.rows}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What a commit object says."""

    topic: str
    partition: int
    flush: Flush
    isolation_level: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if self.isolation_level not in ISOLATION_LEVELS:
            raise ValueError(f"isolation_level is one of {', '.join(ISOLATION_LEVELS)}, got {self.isolation_level!r}")
        for number, part in enumerate(self.parts, start=1):
            found = layout.parse_part(part.path)
            if found is None or found[0] != self._name(number):
                raise ValueError(f"{part.path} is not part {number} of {len(self.parts)} of this flush")

    def _name(self, number: int) -> layout.PartName:
        return layout.PartName(
            partition=self.partition,
            start=self.flush.start,
            stop=self.flush.stop,
            part=number,
            parts=len(self.parts),
        )


def encode(commit: Commit) -> bytes:
    """Deterministic, keys sorted: the same commit gives the same bytes."""
    document = {
        "schema_version": SCHEMA_VERSION,
        "topic": commit.topic,
        "partition": commit.partition,
        "start": commit.flush.start,
        "stop": commit.flush.stop,
        "min_timestamp_ms": commit.flush.min_timestamp,
        "max_timestamp_ms": commit.flush.max_timestamp,
        "isolation_level": commit.isolation_level,
        "parts": [{"path": part.path, "size_bytes": part.size_bytes, "rows": part.rows} for part in commit.parts],
    }
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def decode(content: bytes, where: str) -> Commit:
    """Reads a commit object.

    Args:
        content: The bytes.
        where: Partition and path, for errors.

    Raises:
        CorruptArchiveError: not a commit object, or one of a later release.
    """
    try:
        document: Any = json.loads(content)
        version = _get(document, "schema_version", int)
    except (ValueError, RecursionError) as error:
        raise CorruptArchiveError(
            f"{where} ({len(content)} bytes) is not a commit object ({_short(error)}): it was cut short or written by "
            "something else. Remove it, so that the flush counts as not there, or restore it."
        ) from error
    if version != SCHEMA_VERSION:
        raise CorruptArchiveError(
            f"{where} has schema version {version}, this release of beam-unified reads {SCHEMA_VERSION}: it was written by "
            "another release, use that one or a later one."
        )
    try:
        return Commit(
            topic=_get(document, "topic", str),
            partition=_get(document, "partition", int),
            flush=Flush(
                _get(document, "start", int),
                _get(document, "stop", int),
                _optional(document, "min_timestamp_ms"),
                _optional(document, "max_timestamp_ms"),
            ),
            isolation_level=_get(document, "isolation_level", str),
            parts=tuple(
                Part(
                    path=_get(part, "path", str), size_bytes=_get(part, "size_bytes", int), rows=_get(part, "rows", int)
                )
                for part in _get(document, "parts", list)
            ),
        )
    except ValueError as error:
        raise CorruptArchiveError(
            f"{where} is a damaged commit object ({_short(error)}). Restore it, or remove it so that the flush counts as "
            "not there."
        ) from error


def _get(document: Any, key: str, kind: type[_T]) -> _T:
    """A field, of exactly this JSON type: true is not 1."""
    if not isinstance(document, dict):
        raise ValueError(f"an object was expected, found {type(document).__name__}")  # noqa: TRY004 - it is data that is wrong
    found = document.get(key)
    if type(found) is not kind:
        raise ValueError(f"{key} should be {kind.__name__}, found {type(found).__name__}")
    return found


def _optional(document: Any, key: str) -> int | None:
    return (
        None if isinstance(document, dict) and key in document and document[key] is None else _get(document, key, int)
    )


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
