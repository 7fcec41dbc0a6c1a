"""A claim: the commit that an archiver is about to make, with a digest of every part. Pure; see `planning`."""

import json
from dataclasses import dataclass
from typing import Any

from beam_unified.archive import commits
from beam_unified.archive.commits import Commit
from beam_unified.errors import CorruptArchiveError
from beam_unified.offsets import TopicPartition

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What the flush behind a position will be.

    Attributes:
        position: Where the commits ended when it was made: its name.
        commit: The commit object to be. Its range begins at the position, or after it where Kafka had forgotten what is between.
        sha256: Of each part, in hexadecimal digits.
        writer: What encoded the parts: another one may give other bytes for the same records.
    """

    position: int
    commit: Commit
    sha256: tuple[str, ...]
    writer: str

    def __post_init__(self) -> None:
        if not 0 <= self.position <= self.commit.flush.start:
            raise ValueError(
                f"a flush that starts at {self.commit.flush.start} does not follow position {self.position}"
            )
        if len(self.sha256) != len(self.commit.parts):
            raise ValueError(f"{len(self.sha256)} digests for {len(self.commit.parts)} parts")

    @property
    def tp(self) -> TopicPartition:
        """Whose it is."""
        return TopicPartition(self.commit.topic, self.commit.partition)


def encode(claim: Claim) -> bytes:
    """Deterministic: the same claim gives the same bytes."""
    document = {
        "claim_version": _VERSION,
        "position": claim.position,
        "writer": claim.writer,
        "sha256": list(claim.sha256),
        "commit": json.loads(commits.encode(claim.commit)),
    }
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def decode(content: bytes, where: str) -> Claim:
    """Reads a claim.

    Args:
        content: The bytes.
        where: Partition and path, for errors.

    Raises:
        CorruptArchiveError: not a claim, or one of a later release.
    """
    try:
        document: Any = json.loads(content)
        version = document["claim_version"]
        if version == _VERSION:
            return Claim(
                position=int(document["position"]),
                commit=commits.decode(json.dumps(document["commit"]).encode(), where),
                sha256=tuple(str(one) for one in document["sha256"]),
                writer=str(document["writer"]),
            )
    except (ValueError, RecursionError, LookupError, TypeError) as error:
        raise CorruptArchiveError(
            f"{where} is not a claim ({type(error).__name__}: {error}). Stop every archiver of the topic, then remove it with "
            "beam_unified.archiver.upkeep.abandon_claims."
        ) from error
    raise CorruptArchiveError(
        f"{where} has claim version {version}, this release of beam-unified knows {_VERSION}: run the release that wrote it, or a "
        "later one."
    )
