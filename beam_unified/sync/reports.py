"""What the readers of a sync group tell each other. Values without behaviour; any module of `sync` may use them."""

import math
from dataclasses import dataclass
from enum import Enum

from beam_unified.errors import ConfigError
from beam_unified.offsets import TopicPartition

Level = float
"""A watermark on the extended line: an int (microseconds since the epoch), or one of the two ends below."""

UNKNOWN: Level = -math.inf
"""Before every instant: the member has no watermark yet, or nobody has heard of it."""

PAST_ALL: Level = math.inf
"""After every instant: the member is done."""

ALL_OF_IT = 1_000_000_000
"""A topic's whole rate limit; claims are counted in billionths of it, so that a changed limit leaves them alone."""


class Phase(Enum):
    """What a reader is doing."""

    ARCHIVE = "archive"
    KAFKA = "kafka"
    IDLE = "idle"
    HELD_BY_RATE = "held_by_rate"
    HELD_BY_DRIFT = "held_by_drift"
    HELD_BY_GATE = "held_by_gate"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a member says of itself. The newest one, in the order of the log, counts, even when it says less (rule S1).

    Attributes:
        member: Topic and partition.
        watermark: Its own: microseconds since the epoch; None where nothing is known yet.
        position: Offset of its next record.
        phase: What it is doing.
        partitions: How many partitions its topic has, by the metadata the reader knows.
        claim: Billionths of the topic's rate limit that it uses or wants to use; see `rates`.
        author: Which process says so: a member moves to another one when its worker dies.
        sequence: Grows with every report of an author.
    """

    member: TopicPartition
    watermark: int | None
    position: int
    phase: Phase
    partitions: int
    claim: int = 0
    author: str = ""
    sequence: int = 0

    @property
    def level(self) -> Level:
        """Its watermark on the extended line: a finished member is past every instant (rule S1)."""
        if self.phase is Phase.DONE:
            return PAST_ALL
        return UNKNOWN if self.watermark is None else self.watermark


def _positive(name: str, value: object) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigError(f"RateLimit {name} must be a number above 0, or None for no limit, got {value!r}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """Limits of one topic over all workers (rule S4). None is "no limit".

    Holds over any ten seconds within 10 %, provided that half a second of it is at least one record for each partition.

    Args:
        records_per_s: Records a second.
        bytes_per_s: Bytes of keys and values a second.

    Raises:
        ConfigError: a limit that is not above 0.
    """

    records_per_s: float | None = None
    bytes_per_s: float | None = None

    def __post_init__(self) -> None:
        _positive("records_per_s", self.records_per_s)
        _positive("bytes_per_s", self.bytes_per_s)


NO_LIMIT = RateLimit()
"""As fast as it goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitChange:
    """A topic's limit from here on, in place of what the pipeline was built with."""

    topic: str
    limit: RateLimit


Entry = Report | LimitChange


@dataclass(frozen=True, slots=True)
class Logged:
    """An entry at its place in the log of a run, and when the log took it (milliseconds since the epoch)."""

    entry: Entry
    at_ms: int
