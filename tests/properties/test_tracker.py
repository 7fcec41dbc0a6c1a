"""The tracker under any sequence of claims and splits (R7, T4)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from beam_unified.source.coders import RestrictionCoder
from beam_unified.source.restriction import LogRestriction
from beam_unified.source.tracker import End, LogTracker, UpTo


@st.composite
def small_restrictions(draw):
    """Restrictions in which claims of small offsets can hit the stop."""
    start = draw(st.integers(0, 40))
    stop = draw(st.none() | st.integers(start, 50))
    instant = draw(st.none() | st.integers(0, 9)) if stop is None else None
    return LogRestriction(start=start, stop=stop, stop_before_ms=instant, known_end=draw(st.integers(0, 60)))


def snapshot(tracker):
    """Everything that a tracker shows."""
    return (
        tracker.current_restriction(),
        tracker.current_progress().completed_work,
        tracker.current_progress().remaining_work,
    )


class TrackerMachine(RuleBasedStateMachine):
    """Claims, ends, splits and restarts in any order: granted claims and residuals partition the range exactly."""

    @initialize(restriction=small_restrictions())
    def begin(self, restriction):
        self.whole = restriction
        self.tracker = LogTracker(restriction)
        self.residual: LogRestriction | None = None
        self.granted, self.claimed, self.ended = [], restriction.start, False

    def _beyond(self, offset):
        return self.whole.stop is not None and offset > self.whole.stop

    @rule(offset=st.integers(0, 60))
    def claim(self, offset):
        """Granted, refused after a split, or illegal: then it raises and changes nothing."""
        before = snapshot(self.tracker)
        if self.residual is None and (self.ended or offset <= self.claimed or self._beyond(offset)):
            with pytest.raises(ValueError, match=r"claim (of|up to)"):
                self.tracker.try_claim(UpTo(offset))
            assert snapshot(self.tracker) == before
        elif self.tracker.try_claim(UpTo(offset)):
            assert self.residual is None
            self.granted.append((self.claimed, offset))
            self.claimed = offset
        else:
            assert self.residual is not None
            assert snapshot(self.tracker) == before

    @rule()
    def claim_the_end(self):
        """Legal only once everything below the stop is claimed."""
        before = snapshot(self.tracker)
        early = self.whole.stop is not None and self.claimed < self.whole.stop
        if self.residual is None and (self.ended or early):
            with pytest.raises(ValueError, match=r"claim of"):
                self.tracker.try_claim(End())
            assert snapshot(self.tracker) == before
        else:
            granted = self.tracker.try_claim(End())
            assert granted == (self.residual is None)
            self.ended = self.ended or granted

    @rule(fraction=st.none() | st.just(0) | st.just(0.0) | st.floats(0, 1))
    def split(self, fraction):
        """Only "now", once, before the end; the residual begins where the claims end and carries everything else."""
        before = snapshot(self.tracker)
        split = self.tracker.try_split(fraction)
        assert (split is not None) == (not fraction and self.residual is None and not self.ended)
        if split is None:
            assert snapshot(self.tracker) == before
            return
        primary, self.residual = split
        assert primary == self.tracker.current_restriction()
        assert primary.stop == self.claimed
        assert self.residual == replace(self.whole, start=self.claimed)

    @rule()
    @precondition(lambda self: self.residual is not None)
    def resume(self):
        """The runner stores the residual as bytes and goes on from them, perhaps elsewhere."""
        coder = RestrictionCoder()
        assert self.residual is not None
        self.tracker, self.residual = LogTracker(coder.decode(coder.encode(self.residual))), None

    @invariant()
    def claims_touch_and_stay_inside(self):
        ends = [self.whole.start, *(stop for _, stop in self.granted)]
        assert [start for start, _ in self.granted] == ends[:-1]
        assert not self._beyond(self.claimed)

    @invariant()
    def done_means_finished_or_deferred(self):
        if self.ended or self.residual is not None:
            assert self.tracker.check_done()
        else:
            with pytest.raises(ValueError, match=rf"read up to {self.claimed}, neither finished nor deferred"):
                self.tracker.check_done()


TestTrackerMachine = TrackerMachine.TestCase


@pytest.mark.rule("R7")
@given(small_restrictions(), st.lists(st.integers(1, 5), max_size=5), st.floats(0, 1, exclude_min=True))
def test_any_fraction_but_now_is_refused_and_changes_nothing(restriction, claims, fraction):
    """A live log has no middle: Prism's 0.5 must not cut it at 2^62."""
    tracker, at = LogTracker(restriction), restriction.start
    for count in claims:
        if restriction.stop is None or at + count <= restriction.stop:
            at += count
            tracker.try_claim(UpTo(at))
    before = snapshot(tracker)
    assert tracker.try_split(fraction) is None
    assert snapshot(tracker) == before


@pytest.mark.rule("T4")
@given(small_restrictions())
def test_after_the_last_record_a_residual_is_left_to_hold_the_watermark(restriction):
    """Claiming up to the stop is not the end: the closing step can still be deferred."""
    tracker = LogTracker(restriction)
    stop = restriction.stop
    if stop is None or stop == restriction.start:
        return
    assert tracker.try_claim(UpTo(stop))
    split = tracker.try_split(0)
    assert split is not None
    assert split[1] == LogRestriction(start=stop, stop=stop, known_end=restriction.known_end)
    closing = LogTracker(split[1])
    assert closing.try_claim(End())
    assert closing.check_done()
