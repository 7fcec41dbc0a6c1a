"""Claims and splits, one rule a test; tests/properties/test_tracker.py does them in any order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.offsets import OffsetRange
from beam_unified.source.restriction import LogRestriction
from beam_unified.source.tracker import End, LogTracker, Noticed, UpTo


@pytest.fixture
def tracker():
    """Offsets 10 to 19."""
    return LogTracker(LogRestriction(start=10, stop=20))


@pytest.mark.rule("R4")
def test_a_claim_covers_records_and_holes_alike(tracker):
    """Progress goes to the position after a poll, however few records were in it."""
    assert tracker.try_claim(UpTo(15))
    assert tracker.try_claim(UpTo(20))


@pytest.mark.rule("R1")
@pytest.mark.parametrize("offset", [9, 10, 14, 15])
def test_a_claim_that_goes_back_is_an_error(tracker, offset):
    """It would emit records twice; the message names both offsets."""
    tracker.try_claim(UpTo(15))
    with pytest.raises(ValueError, match=rf"claim up to {offset}, but offsets below 15 are claimed already"):
        tracker.try_claim(UpTo(offset))
    assert tracker.try_claim(UpTo(16))


@pytest.mark.rule("R1")
def test_a_claim_beyond_the_stop_is_an_error(tracker):
    """Not False: nothing past the stop may have been read."""
    with pytest.raises(ValueError, match=r"claim up to 21, beyond the stop of .*stop=20"):
        tracker.try_claim(UpTo(21))


@pytest.mark.rule("T4")
def test_the_end_before_the_stop_is_an_error(tracker):
    """Records would be lost without a word."""
    tracker.try_claim(UpTo(19))
    with pytest.raises(ValueError, match="claim of the end at 19, before the stop"):
        tracker.try_claim(End())


def residual(tracker, fraction):
    split = tracker.try_split(fraction)
    assert split is not None
    return split[1]


@pytest.mark.rule("A4")
def test_what_is_skipped_goes_with_the_residual():
    """Until a late file of it is told of, once: a claim that comes after the checkpoint is the residual's to make."""
    tracker = LogTracker(LogRestriction(start=10, skipped=(OffsetRange(0, 4),)))
    assert tracker.try_claim(UpTo(15, skipped=True))
    assert tracker.try_claim(UpTo(20))
    assert tracker.try_claim(Noticed((OffsetRange(1, 2), OffsetRange(12, 15))))
    left = (OffsetRange(0, 1), OffsetRange(2, 4), OffsetRange(10, 12))
    rest = residual(tracker, 0)
    assert (rest.start, rest.skipped) == (20, left)
    assert not tracker.try_claim(Noticed(left))
    assert residual(LogTracker(rest), 0).skipped == left


@pytest.mark.rule("A4")
def test_what_is_skipped_stays_with_the_part_that_skipped_it():
    """A split in the middle of a piece hands on what comes later, and nothing to look for."""
    tracker = LogTracker(LogRestriction(start=0, stop=100, splittable=True))
    tracker.try_claim(UpTo(10, skipped=True))
    assert residual(tracker, 0.5).skipped == ()
    assert residual(tracker, 0).skipped == (OffsetRange(0, 10),)


@pytest.mark.rule("R7")
def test_after_a_split_claims_are_refused(tracker):
    """The residual belongs to somebody else now."""
    tracker.try_claim(UpTo(15))
    assert tracker.try_split(0) is not None
    assert not tracker.try_claim(UpTo(16))
    assert not tracker.try_claim(End())
    assert tracker.check_done()


@pytest.mark.rule("R7")
@pytest.mark.parametrize("fraction", [0, 0.0, None])
def test_now_is_a_fraction_of_zero_or_none(tracker, fraction):
    """Runners ask for a self-checkpoint in these ways."""
    tracker.try_claim(UpTo(15))
    primary, residual = tracker.try_split(fraction)
    assert (primary.start, primary.stop) == (10, 15)
    assert (residual.start, residual.stop) == (15, 20)


@pytest.mark.rule("R7")
def test_a_split_before_any_claim_hands_everything_over(tracker):
    """The primary is empty and done."""
    primary, residual = tracker.try_split(0)
    assert (primary.start, primary.stop, residual.start, residual.stop) == (10, 10, 10, 20)
    assert tracker.check_done()


@pytest.mark.rule("R7")
@pytest.mark.parametrize(("fraction", "middle"), [(1e-9, 11), (0.5, 15), (0.89, 19)])
def test_a_piece_is_cut_behind_what_is_claimed_and_before_its_stop(fraction, middle):
    """One offset at least stays on either side; the smallest fraction leaves exactly one here."""
    piece = LogTracker(LogRestriction(start=5, stop=20, splittable=True))
    assert piece.try_claim(UpTo(10))
    split = piece.try_split(fraction)
    assert split is not None
    primary, residual = split
    assert (primary.start, primary.stop, residual.start, residual.stop) == (5, middle, middle, 20)


@pytest.mark.rule("R7")
@pytest.mark.parametrize("fraction", [0.5, 1e-9, 1.0])
def test_prisms_split_of_a_live_log_is_refused(fraction):
    """A stock offset tracker over [x, 2^63) would cut it at 2^62."""
    live = LogTracker(LogRestriction(start=10))
    assert live.try_split(fraction) is None
    assert live.try_claim(UpTo(11))


def test_returning_without_finishing_or_deferring_is_an_error(tracker):
    """Beam asks after every call; the message says how far it got."""
    tracker.try_claim(UpTo(15))
    with pytest.raises(ValueError, match=r"read up to 15, neither finished nor deferred"):
        tracker.check_done()


def test_progress_is_estimated_in_offsets():
    """To the stop where there is one, else to the last known end; nothing once finished."""
    bounded = LogTracker(LogRestriction(start=10, stop=20))
    bounded.try_claim(UpTo(13))
    assert (bounded.current_progress().completed_work, bounded.current_progress().remaining_work) == (3, 7)
    live = LogTracker(LogRestriction(start=10, known_end=15))
    live.try_claim(UpTo(13))
    assert live.current_progress().remaining_work == 2
    live.try_claim(UpTo(18))
    assert live.current_progress().remaining_work == 0
    live.try_claim(End())
    assert live.current_progress().remaining_work == 0


@given(st.integers(0, 2**62), st.integers(0, 100), st.integers(0, 100), st.booleans())
def test_the_fraction_of_progress_is_a_number_from_zero_to_one(start, claimed, left, bounded):
    """Claimed offsets of all offsets, to the stop or the last known end; of none at all it is 0 until the end is claimed."""
    stop = start + claimed + left
    tracker = LogTracker(LogRestriction(start=start, stop=stop if bounded else None, known_end=stop))
    assert tracker.current_progress().fraction_completed == 0.0
    if claimed:
        tracker.try_claim(UpTo(start + claimed))
    progress = tracker.current_progress()
    assert (progress.completed_work, progress.remaining_work) == (claimed, left)
    assert progress.fraction_completed == pytest.approx(claimed / (claimed + left) if claimed + left else 0.0)
    if bounded and left:
        tracker.try_claim(UpTo(stop))
    tracker.try_claim(End())
    assert tracker.current_progress().remaining_work == 0
    assert tracker.current_progress().fraction_completed == 1.0


def test_a_tracker_is_bounded_as_its_restriction_is():
    """Runners choose batch or streaming execution by it."""
    assert LogTracker(LogRestriction(start=0, stop=1)).is_bounded()
    assert LogTracker(LogRestriction(start=0, stop_before_ms=1)).is_bounded()
    assert not LogTracker(LogRestriction(start=0)).is_bounded()
