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


class PieceMachine(RuleBasedStateMachine):
    """A splittable piece, split at any fraction by a runner that reads all the parts at once: each offset in one of them."""

    @initialize(start=st.integers(0, 40), length=st.integers(0, 40))
    def begin(self, start, length):
        self.whole = LogRestriction(start=start, stop=start + length, splittable=True)
        self.trackers = [LogTracker(self.whole)]
        self.at = [start]
        self.granted: list[int] = []

    def _pick(self, data):
        return data.draw(st.integers(0, len(self.trackers) - 1))

    @rule(data=st.data(), count=st.integers(1, 10))
    def claim(self, data, count):
        """All of it or nothing: what reaches beyond the stop, as it is since a split, is refused and changes nothing."""
        one = self._pick(data)
        tracker, wanted = self.trackers[one], self.at[one] + count
        before = snapshot(tracker)
        if tracker.try_claim(UpTo(wanted)):
            self.granted += range(self.at[one], wanted)
            self.at[one] = wanted
        else:
            assert wanted > tracker.current_restriction().stop
            assert snapshot(tracker) == before

    @rule(data=st.data(), fraction=st.floats(0, 1, exclude_min=True))
    def split(self, data, fraction):
        """Both sides have something left; the primary keeps the nearer half and is not stopped by it."""
        one = self._pick(data)
        tracker, before = self.trackers[one], self.trackers[one].current_restriction()
        split = tracker.try_split(fraction)
        if split is None:
            assert tracker.current_restriction() == before
            return
        primary, residual = split
        assert tracker.current_restriction() == primary
        assert primary.stop == residual.start
        assert residual.stop == before.stop
        assert self.at[one] < residual.start
        assert residual.stop is not None
        assert residual.start < residual.stop
        assert residual.splittable
        self.trackers.append(LogTracker(residual))
        self.at.append(residual.start)

    @rule(data=st.data())
    def checkpoint(self, data):
        """The rest goes on elsewhere, from bytes."""
        one, coder = self._pick(data), RestrictionCoder()
        split = self.trackers[one].try_split(0.0)
        assert split is not None
        assert split[1].start == self.at[one]
        assert self.trackers[one].check_done()
        self.trackers[one] = LogTracker(coder.decode(coder.encode(split[1])))

    def teardown(self):
        """Read to the end, everything has been granted exactly once."""
        for tracker, at in zip(self.trackers, self.at, strict=True):
            stop = tracker.current_restriction().stop
            assert stop is not None
            if at < stop:
                assert tracker.try_claim(UpTo(stop))
                self.granted += range(at, stop)
            assert tracker.try_claim(End())
            assert tracker.check_done()
        assert sorted(self.granted) == list(range(self.whole.start, self.whole.stop or 0))


TestPieceMachine = PieceMachine.TestCase


@pytest.mark.rule("R7")
@given(st.integers(1, 1_000), st.integers(1, 10**6), st.floats(0.01, 0.99))
def test_a_piece_is_split_near_the_fraction_asked_for(claimed, left, fraction):
    """Of what is not claimed yet: a runner that asks for half gets half."""
    tracker = LogTracker(LogRestriction(start=0, stop=claimed + left, splittable=True))
    assert tracker.try_claim(UpTo(claimed))
    split = tracker.try_split(fraction)
    if left == 1:
        assert split is None
    elif split is not None:
        assert abs((split[1].start - claimed) - left * fraction) <= 1
    else:
        assert round(left * fraction) >= left


@pytest.mark.rule("R2")
@given(st.lists(st.tuples(st.integers(1, 9), st.none() | st.integers(0, 9)), max_size=6))
def test_a_residual_carries_the_leader_epoch_of_the_last_record(claims):
    """By which the brokers tell, hours later, whether the log was truncated below it."""
    tracker, at, epoch = LogTracker(LogRestriction(start=5, topic_id="id", leader_epoch=3)), 5, 3
    for count, leader_epoch in claims:
        at, epoch = at + count, leader_epoch
        assert tracker.try_claim(UpTo(at, leader_epoch))
    split = tracker.try_split(0)
    assert split is not None
    assert split[1] == LogRestriction(start=at, topic_id="id", leader_epoch=epoch)


@pytest.mark.rule("R7")
@given(st.integers(0, 50), st.none() | st.integers(0, 50), st.lists(st.integers(0, 60), unique=True))
def test_pieces_partition_a_restriction(start, length, boundaries):
    """Each piece ends at a boundary and is splittable; the rest, with the stop and the live tail, is not."""
    stop = None if length is None else start + length
    restriction = LogRestriction(start=start, stop=stop, initial_watermark=7, topic_id="id")
    pieces = restriction.pieces(sorted(boundaries))
    assert [piece.start for piece in pieces] == [start, *(piece.stop for piece in pieces[:-1])]
    assert pieces[-1].stop == stop
    assert all(piece.splittable and piece.stop in boundaries for piece in pieces[:-1])
    assert all(piece.stop is not None and piece.start < piece.stop for piece in pieces[:-1])
    assert {(piece.initial_watermark, piece.topic_id) for piece in pieces} == {(7, "id")}
    assert pieces[-1].splittable == (stop in boundaries and stop > start if stop is not None else False)
    within = [boundary for boundary in boundaries if start < boundary and (stop is None or boundary <= stop)]
    assert len(pieces) == max(1, len(within) + (stop is None or stop not in within))


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
