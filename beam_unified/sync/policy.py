"""Who may read: what follows for one reader from the view of its group (rules S2, S3, S5). Pure.

Nobody waits for ever because of these rules: of the readers that no gate holds the slowest one is never held by drift, and
gates go in no circle, so that the first gate waits for readers that no gate holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from beam_unified.sync.options import Gate, GateMode, ReaderRules
from beam_unified.sync.reduction import GroupView
from beam_unified.sync.reports import PAST_ALL, Level


class Hold(Enum):
    """Why a reader gets no quota."""

    COORDINATOR = "coordinator"
    GATE = "gate"
    DRIFT = "drift"
    RATE = "rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What gates and drift say to a reader.

    Attributes:
        hold: None where it may read.
        emit_before: It may emit records with event time below this only, in microseconds; None is without limit.
        watermark_cap: It may report a watermark up to this level.
    """

    hold: Hold | None
    emit_before: int | None
    watermark_cap: Level


def judge(
    view: GroupView, own: Level, rules: ReaderRules, *, max_drift: int | None, reached_limit: bool = False
) -> Verdict:
    """What a reader whose own watermark is at `own` may do.

    Args:
        view: The group, as of now.
        own: What the reader knows of itself is newer than its report in the view.
        rules: Its gates.
        max_drift: Microseconds; None is without bound.
        reached_limit: It has met a record that is not below `emit_before`, and nothing before it is left.
    """
    cap = PAST_ALL if max_drift is None else view.minimum() + max_drift
    closed = closed_gates(view, rules)
    emit_before = min((gate.until for gate in closed), default=None)
    if closed and (reached_limit or rules.mode is GateMode.CLOSED):
        return Verdict(hold=Hold.GATE, emit_before=emit_before, watermark_cap=cap)
    return Verdict(hold=Hold.DRIFT if own > cap else None, emit_before=emit_before, watermark_cap=cap)


def closed_gates(view: GroupView, rules: ReaderRules) -> Sequence[Gate]:
    """The gates that are not open, judged on the current view: one that was open may close again (S3)."""
    return [gate for gate in rules.gates if view.topic_minimum(gate.topic) < gate.until]
