"""The restriction as a value."""

import pytest
from hypothesis import given

from beam_unified.offsets import OffsetRange
from beam_unified.source.restriction import LogRestriction
from tests.strategies import restrictions


@pytest.mark.rule("B5")
def test_a_restriction_has_no_truth_value_of_its_own():
    """Beam drops a residual that is falsy: no __len__, no __bool__, not even when nothing is left to read."""
    assert not hasattr(LogRestriction, "__len__")
    assert not hasattr(LogRestriction, "__bool__")
    assert bool(LogRestriction(start=0, stop=0)) is True


def test_a_restriction_ends_at_an_offset_at_an_instant_or_never():
    """Both ends at once would be two answers to one question."""
    assert LogRestriction(start=0, stop=5).bounded
    assert LogRestriction(start=0, stop_before_ms=5).bounded
    assert not LogRestriction(start=0).bounded
    with pytest.raises(ValueError, match="at an offset or at an instant, not at both"):
        LogRestriction(start=0, stop=5, stop_before_ms=5)


def test_a_reversed_range_is_refused_with_the_range():
    """The start is not above the stop; an empty one is fine."""
    with pytest.raises(ValueError, match=r"\[6, 5\)"):
        LogRestriction(start=6, stop=5)
    LogRestriction(start=5, stop=5)


def test_ends_at_is_judged_by_position():
    """Never by "saw offset stop - 1": that offset may not exist."""
    restriction = LogRestriction(start=0, stop=5)
    assert [restriction.ends_at(offset) for offset in (4, 5, 6)] == [False, True, True]
    assert not LogRestriction(start=0).ends_at(2**62)
    assert not LogRestriction(start=0, stop_before_ms=0).ends_at(2**62)


@pytest.mark.parametrize("edges", [(5, 6, 0, 1), (0, 2, 1, 3), (0, 2, 2, 3), (1, 1), (8, 11)])
def test_what_was_skipped_is_in_order_and_below_the_start(edges):
    """Not empty, not touching: one way to write it down."""
    skipped = tuple(OffsetRange(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True))
    with pytest.raises(ValueError, match="what was skipped is in order, not empty, and below 10"):
        LogRestriction(start=10, skipped=skipped)


def test_only_what_has_a_stop_is_splittable():
    """A live log has no middle."""
    assert LogRestriction(start=0, stop=5, splittable=True).splittable
    assert not LogRestriction(start=0, stop=5).splittable
    for instant in (None, 5):
        with pytest.raises(ValueError, match="only a range of offsets is splittable"):
            LogRestriction(start=0, stop_before_ms=instant, splittable=True)


@pytest.mark.rule("R7")
def test_pieces_end_at_the_boundaries_within():
    """Each knows its own end, so that progress is of the piece; what is left over is as it was."""
    live = LogRestriction(start=10, known_end=99)
    piece = LogRestriction(start=10, stop=20, known_end=20, splittable=True)
    assert live.pieces([9, 10, 20]) == (piece, LogRestriction(start=20, known_end=99))
    assert live.pieces([]) == (live,)
    bounded = LogRestriction(start=10, stop=20, known_end=99)
    assert bounded.pieces([20]) == bounded.pieces([20, 21]) == (piece,)
    assert bounded.pieces([10, 21]) == (bounded,)
    assert bounded.pieces([19]) == (
        LogRestriction(start=10, stop=19, known_end=19, splittable=True),
        LogRestriction(start=19, stop=20, known_end=99),
    )
    empty = LogRestriction(start=10, stop=10)
    assert empty.pieces([5, 10, 15]) == (empty,)


@pytest.mark.rule("R7")
def test_a_cut_gives_the_leader_epoch_to_the_rest():
    """It is of the last record below; without one, nothing is known."""
    below, rest = LogRestriction(start=0, stop=9, leader_epoch=3).cut(5, 4)
    assert (below.leader_epoch, rest.leader_epoch) == (3, 4)
    assert LogRestriction(start=0, leader_epoch=3).cut(5)[1].leader_epoch is None


def test_nothing_is_known_of_the_end_unless_said():
    """An estimate must not be made of a default."""
    assert LogRestriction(start=7).known_end == 0


@pytest.mark.rule("R7")
@given(restrictions())
def test_a_cut_partitions_the_range(restriction):
    """Below the cut without an instant, above it everything else; together the whole."""
    middle = restriction.start + 1 if restriction.stop is None else (restriction.start + restriction.stop + 1) // 2
    below, rest = restriction.cut(min(middle, 2**63 - 1))
    assert (below.start, below.stop, below.stop_before_ms) == (restriction.start, rest.start, None)
    assert (rest.stop, rest.stop_before_ms) == (restriction.stop, restriction.stop_before_ms)
    assert below.initial_watermark == rest.initial_watermark == restriction.initial_watermark
