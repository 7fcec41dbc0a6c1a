"""The protocol by which archivers agree on flushes, and what is to be done next. Pure; `archiver` does it.

Any number of archivers may work on a partition, each may die at any instant, and no clock, lock or lease is needed: only a
storage that lists what was written (as S3 has since 2020) and creates an object for one of several writers.

    read Kafka from the position, encode ->  CLAIM  -> check -> parts -> COMMIT -> notify -> release (remove the claim)

1. The position is where the commits end (0 without any). A flush is named by its predecessor: the claim for what follows
   position p is the object `_claims/<partition>/<p>.json`, created only where there is none. So there is one for each p.
2. A claim is the whole commit object to be, with a SHA-256 of every part, and the writer's version: what is claimed has been
   read and encoded already. So the content is fixed when the boundaries are, whatever becomes of Kafka's log.
3. Whoever has created or read a claim looks at the commits *afterwards*, before it acts. Where they reach beyond p the claim is
   dead: a straggler made it. Nothing is ever written for a dead claim, but its removal.
4. Parts go to the names of the claimed range, and the commit object last. Whoever meets an open claim finishes it before anything
   else: parts that are there with the right SHA-256 stay, others are made again from Kafka and must give the same bytes.
   Where they do not (compaction, retention, another version of the writer) it stops with OpenClaimError, and writes nothing.
5. A claim is removed only after its commit was announced. So a claim whose flush is committed says that the announcement may
   be missing: whoever finds it announces once more.

From 1 and 3: no two different flushes follow the same position, so the commits form one chain, and the parts that belong to no
commit belong to an open claim. A claim above the position means that somebody removed a commit: nobody may guess why.

Only what is stable is read. Under read_committed a fetch ends at the last stable offset, below which every transaction is
decided; under read_uncommitted aborted records count like any other. A range that was read once reads the same ever after,
compaction and retention apart. Holes at the end of a flush belong to it: it stops at the consumer's position.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Settle:
    """The flush behind this position is committed: announce it, then remove its claim."""

    position: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The claim behind the position is open: do what it says."""


@dataclass(frozen=True, slots=True)
class Read:
    """Nothing is left of anybody: read on from the position."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """There is a claim above the position: the commits before it were removed."""

    claimed: int


Action = Settle | Finish | Read | Refuse


def plan(position: int, claims: Iterable[int]) -> Action:
    """What to do first.

    Args:
        position: Where the commits end.
        claims: Positions of the claims that are there.
    """
    found = sorted(claims)
    if found and found[0] < position:
        return Settle(found[0])
    if found and found[-1] > position:
        return Refuse(found[-1])
    return Finish() if found else Read()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushLimits:
    """When a flush is due; the first limit that is reached counts.

    Attributes:
        records: So many records; a flush is cut there exactly.
        size_bytes: So many bytes of Parquet, over all hours of the flush; one fetch more at most.
        age: So long after its first record was read.
    """

    records: int = 5_000_000
    size_bytes: int = 128 * 1024 * 1024
    age: timedelta = timedelta(minutes=10)

    def room(self, records: int) -> int:
        """How many more records go into a flush that has so many."""
        return max(0, self.records - records)

    def due(self, *, records: int, size_bytes: int, age_s: float) -> bool:
        """Whether a flush with at least one record should be written."""
        return records >= self.records or size_bytes >= self.size_bytes or age_s >= self.age.total_seconds()
