"""Synchronisation behind one call, for whoever reads a partition.

One `Synchronizer` per worker process and run of a group, found through `acquire`. Readers call `turn` at the start of every
call of `process` and after every batch; nothing in it waits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from beam_unified.offsets import TopicPartition
from beam_unified.sync.options import ReaderRules, SyncGroup
from beam_unified.sync.reports import Level, Phase


class Hold(Enum):
    """Why a reader gets no quota."""

    COORDINATOR = "coordinator"
    GATE = "gate"
    DRIFT = "drift"
    RATE = "rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a reader may do now.

    Attributes:
        hold: Why it must not read; None where it may. Held readers defer, and ask again.
        waits_for: For people: whom or what it waits for; empty where it is free.
        records: At most so many records until the next turn; None is without limit.
        emit_before: Emit records with event time below this only (microseconds), and call `reached_limit` where the first
            of a fetch is not; None is without limit.
        watermark_cap: The watermark to report is never above this level (S5).
        held_ms: Since the last turn of this member: milliseconds held, by reason.
    """

    hold: Hold | None
    waits_for: str
    records: int | None
    emit_before: int | None
    watermark_cap: Level
    held_ms: Mapping[Hold, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncHealth:
    """The state of the group as this worker sees it, for metrics.

    Attributes:
        gap_ms: Event time between the slowest reader that drift counts and the fastest; None where it is not known.
        silent: Members that have gone silent.
        lost_ms: How long this worker's reports have not come back from the coordinator; 0 while they do.
    """

    gap_ms: int | None
    silent: int
    lost_ms: int


class Synchronizer:
    """What the readers of one process share. Thread safe."""

    def __init__(self, group: SyncGroup) -> None:
        raise NotImplementedError

    def turn(
        self,
        member: TopicPartition,
        *,
        watermark: int | None,
        position: int,
        phase: Phase,
        partitions: int,
        rules: ReaderRules,
    ) -> Turn:
        """Reports, where a report is due, and says what the reader may do.

        Args:
            member: Topic and partition.
            watermark: Own watermark, in microseconds; not the one that was capped.
            position: Offset of the next record.
            phase: ARCHIVE, KAFKA, IDLE or DONE; that it is held the synchroniser knows better. DONE must be told once,
                also by a reader that has had nothing to read.
            partitions: How many partitions the topic has, by the newest metadata.
            rules: Gates and limit of the topic.
        """
        raise NotImplementedError

    def spent(self, member: TopicPartition, *, records: int, size_bytes: int) -> None:
        """A batch was read within the quota of the last turn."""
        raise NotImplementedError

    def reached_limit(self, member: TopicPartition, *, position: int) -> None:
        """The record at `position` is not below `emit_before`: until the gate opens, or it moves, there is nothing to do."""
        raise NotImplementedError

    def health(self) -> SyncHealth:
        """For metrics."""
        raise NotImplementedError

    def close(self) -> None:
        """Leaves the coordinator."""
        raise NotImplementedError


def acquire(group: SyncGroup) -> Synchronizer:
    """The synchroniser of a run in this process, made at the first call. Every call needs one `release`."""
    raise NotImplementedError


def release(group: SyncGroup) -> None:
    """Gives it back; the last one closes it."""
    raise NotImplementedError
