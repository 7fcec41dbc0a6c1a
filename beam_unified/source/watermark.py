"""The watermark estimator: Beam's interface over the pure rules of `watermarks`."""

import math
from collections.abc import Hashable

from apache_beam.io.iobase import WatermarkEstimator
from apache_beam.utils.timestamp import MIN_TIMESTAMP, Timestamp

from beam_unified import watermarks
from beam_unified.source.joint import JointWatermark
from beam_unified.watermarks import IdlePolicy, WatermarkState


class LogWatermarkEstimator(WatermarkEstimator):
    """Watermark of one partition. Beam wraps it in a lock and forwards every method to `process`.

    The watermark Beam sees moves only in `start_call`, which `process` calls first (rule T4).
    """

    def __init__(self, state: WatermarkState) -> None:
        """Goes on from a state."""
        self._state = state
        self._joint: JointWatermark | None = None
        self._member: Hashable = None

    def current_watermark(self) -> Timestamp:
        """What is reported now."""
        reported = self._state.reported
        if self._joint is not None:
            reported = self._joint.earliest(reported)
        return MIN_TIMESTAMP if reported is None else Timestamp(micros=reported)

    def get_estimator_state(self) -> WatermarkState:
        """What a residual must remember."""
        return self._state

    def observe_timestamp(self, timestamp: Timestamp) -> None:
        """Ignored: Beam calls it per record, we observe per batch."""

    def start_call(
        self, joint: JointWatermark | None = None, member: Hashable = None, *, cap: float = math.inf
    ) -> None:
        """A call of `process` begins: report what earlier calls earned, or what they and all others have, where that is asked.

        Args:
            joint: Of all others.
            member: Who this is among them.
            cap: Microseconds that a sync group allows (S5).
        """
        self._state = watermarks.start_call(self._state, cap)
        self._joint, self._member = joint, member
        if joint is not None:
            joint.report(member, self._state.reported)

    def end(self) -> None:
        """The restriction is done: it holds nobody."""
        if self._joint is not None:
            self._joint.leave(self._member)

    def emitted(self, newest: int, max_out_of_orderness: int) -> None:
        """A batch was emitted; microseconds."""
        self._state = watermarks.emitted(self._state, newest, max_out_of_orderness)

    def nothing_new(self, now_ms: int, max_out_of_orderness: int, policy: IdlePolicy) -> None:
        """A fetch at the end brought nothing."""
        self._state = watermarks.nothing_new(self._state, now_ms, max_out_of_orderness, policy)

    def held(self, ms: int) -> None:
        """It was kept from reading for so long."""
        self._state = watermarks.held(self._state, ms)

    def busy(self) -> None:
        """There may be something to read."""
        self._state = watermarks.busy(self._state)
