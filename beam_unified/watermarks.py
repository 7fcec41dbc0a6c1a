"""Watermark of one partition, as a value and the functions that move it. Pure; the estimator in `source` wraps it.

Rules (T1, T2, T4 of docs/guarantees.md):

1. What a call emits EARNS a watermark: newest event time - max_out_of_orderness.
2. What was earned is REPORTED only from the start of the next call on. So the watermark that leaves with a call's
   output covers nothing of that output, and no runner that lets the watermark pass a buffered bundle can make it late.
   In a sync group it is reported up to a cap, which others set (S5); what was earned stays.
3. A partition without news for `idle_timeout`, seen by a successful fetch at the high watermark, earns
   now - max_out_of_orderness, if the user chose `on_idle="advance"`. While it is held on purpose, that clock stands still.
4. Neither ever goes back.
5. Watermarks are whole milliseconds, rounded down: runners carry the timestamps of elements in milliseconds, and a
   watermark with microseconds would make a record late by a fraction of one.

All times are microseconds since the epoch, except the idle clock: milliseconds of the wall clock.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class WatermarkState:
    """What the estimator of a partition must remember.

    Attributes:
        reported: The watermark; None is "the minimum: nothing is known yet".
        earned: What the output so far allows; reported from the next call on.
        idle_since_ms: Wall clock of the first fetch in a row that found nothing at the high watermark; None while
            there is something to read.
    """

    reported: int | None = None
    earned: int | None = None
    idle_since_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdlePolicy:
    """What an idle partition does to its watermark.

    Attributes:
        advance: Follow the wall clock, or hold.
        timeout_ms: How long there must have been nothing before it counts as idle.
    """

    advance: bool
    timeout_ms: int


def own(state: WatermarkState) -> int | None:
    """What the partition knows of itself, whatever of it may be reported; what others are told in a sync group."""
    return _later(state.reported, state.earned)


def start_call(state: WatermarkState, cap: float = math.inf) -> WatermarkState:
    """A call begins: what earlier calls earned is reported, up to a cap (rule 2). Infinite: no cap, or nothing yet."""
    if state.earned is None or cap == -math.inf:
        return state
    return replace(state, reported=_later(state.reported, _whole_ms(int(min(state.earned, cap)))))


def emitted(state: WatermarkState, newest: int, max_out_of_orderness: int) -> WatermarkState:
    """Records were emitted, the newest of them at `newest` (rule 1). Ends an idle spell."""
    return WatermarkState(
        reported=state.reported,
        earned=_later(state.earned, _whole_ms(newest - max_out_of_orderness)),
        idle_since_ms=None,
    )


class Lateness(NamedTuple):
    """Of the late records of a batch.

    Attributes:
        records: How many there are.
        total: By how much they are late, added up; microseconds.
        most: The largest of it.
    """

    records: int
    total: int
    most: int


def late(state: WatermarkState, micros: "Sequence[int] | np.ndarray", max_out_of_orderness: int) -> Lateness:
    """How many of the records that are about to be emitted are late, and by how much (T3).

    Late is what lies more than `max_out_of_orderness` before a record of its restriction that came earlier.

    Args:
        state: Before the batch.
        micros: Event times of the batch, at least one, in order of offset.
        max_out_of_orderness: Microseconds.
    """
    times = np.asarray(micros, dtype=np.int64)
    newest = np.maximum.accumulate(times)
    if state.earned is not None:
        newest = np.maximum(newest, state.earned + max_out_of_orderness)
    lateness = newest - times - max_out_of_orderness
    found = lateness[lateness > 0]
    return Lateness(len(found), int(found.sum()), int(found.max())) if len(found) else _NONE_LATE


_NONE_LATE = Lateness(0, 0, 0)


def nothing_new(state: WatermarkState, now_ms: int, max_out_of_orderness: int, policy: IdlePolicy) -> WatermarkState:
    """A fetch at the high watermark succeeded at `now_ms` and brought nothing (rule 3)."""
    since = now_ms if state.idle_since_ms is None else min(state.idle_since_ms, now_ms)
    earned = state.earned
    if policy.advance and now_ms - since >= policy.timeout_ms:
        earned = _later(earned, _whole_ms(now_ms * 1_000 - max_out_of_orderness))
    return WatermarkState(reported=state.reported, earned=earned, idle_since_ms=since)


def busy(state: WatermarkState) -> WatermarkState:
    """There is something to read, or we cannot know: whatever was counted as idle ends."""
    return state if state.idle_since_ms is None else replace(state, idle_since_ms=None)


def held(state: WatermarkState, ms: int) -> WatermarkState:
    """The partition was not allowed to read for so long: that time does not count as idle (rule 3)."""
    return state if state.idle_since_ms is None else replace(state, idle_since_ms=state.idle_since_ms + ms)


def _whole_ms(micros: int) -> int:
    return micros // 1_000 * 1_000


def _later(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)
