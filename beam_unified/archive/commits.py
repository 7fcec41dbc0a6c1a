"""The commit object of a flush: JSON that a person can read. Pure; reading and writing it is done elsewhere.

A flush exists if and only if its commit object does. It says which files hold the records, so that a reader never lists
the hour folders, and what they must look like, so that a truncated or replaced file is noticed.
"""

import json
from dataclasses import dataclass
from typing import Any

from beam_unified.errors import CorruptArchiveError
from beam_unified.flushes import Flush

SCHEMA_VERSION = 1


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """What a commit object says."""

    topic: str
    partition: int
    flush: Flush
    isolation_level: str
    parts: tuple[Part, ...]


def encode(commit: Commit) -> bytes:
    """Deterministic: the same commit gives the same bytes."""
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
    return (json.dumps(document, indent=2) + "\n").encode()


def decode(content: bytes, path: str) -> Commit:
    """Reads a commit object.

    Args:
        content: The bytes.
        path: Where they were read, for errors.

    Raises:
        CorruptArchiveError: not a commit object, or one of a later release.
    """
    try:
        document: Any = json.loads(content)
        version = document["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptArchiveError(
            f"{path} ({len(content)} bytes) is not a commit object ({type(error).__name__}): it was cut short or written by "
            "something else. Remove it, so that the flush counts as not there, or restore it."
        ) from error
    if version != SCHEMA_VERSION:
        raise CorruptArchiveError(
            f"{path} has schema version {version!r}, this release of beam-unified reads {SCHEMA_VERSION}: upgrade it."
        )
    try:
        return Commit(
            topic=document["topic"],
            partition=document["partition"],
            flush=Flush(
                document["start"], document["stop"], document["min_timestamp_ms"], document["max_timestamp_ms"]
            ),
            isolation_level=document["isolation_level"],
            parts=tuple(
                Part(path=part["path"], size_bytes=part["size_bytes"], rows=part["rows"]) for part in document["parts"]
            ),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptArchiveError(
            f"{path} is an incomplete commit object ({type(error).__name__}: {error})."
        ) from error
