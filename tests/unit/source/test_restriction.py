"""The restriction as a value."""

import pytest
from hypothesis import given

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


@pytest.mark.rule("R7")
@given(restrictions())
def test_a_cut_partitions_the_range(restriction):
    """Below the cut without an instant, above it everything else; together the whole."""
    middle = restriction.start + 1 if restriction.stop is None else (restriction.start + restriction.stop + 1) // 2
    below, rest = restriction.cut(min(middle, 2**63 - 1))
    assert (below.start, below.stop, below.stop_before_ms) == (restriction.start, rest.start, None)
    assert (rest.stop, rest.stop_before_ms) == (restriction.stop, restriction.stop_before_ms)
    assert below.initial_watermark == rest.initial_watermark == restriction.initial_watermark
