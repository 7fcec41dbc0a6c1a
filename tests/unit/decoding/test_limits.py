"""DeadLetterLimit: when too much is bad."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified import ConfigError, DeadLetterLimit
from beam_unified.decoding.limits import Tally


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=60), st.integers(1, 5), st.integers(1, 7))
def test_records_in_a_row_are_counted_not_offsets(records, most, size):
    """Whatever the holes and the batches, it fails at the first run of so many bad records, and not before."""
    offsets, at = [], 0
    for _, step in records:
        at += step
        offsets.append(at)
    bad = {offset for offset, (is_bad, _) in zip(offsets, records, strict=True) if is_bad}
    run, expected = 0, None
    for number, offset in enumerate(offsets):
        run = run + 1 if offset in bad else 0
        if run == most and expected is None:
            expected = number // size
    tally = Tally(DeadLetterLimit(consecutive=most))
    found = None
    for number in range(0, len(offsets), size):
        if tally.take(offsets[number : number + size], bad) is not None:
            found = number // size
            break
    assert found == expected


def test_the_ratio_fails_as_soon_as_it_cannot_be_kept():
    """More than 10 % of 100 is the eleventh; a new window begins clean."""
    tally = Tally(DeadLetterLimit(ratio=0.1, window=100))
    assert tally.take(range(10), set(range(10))) is None
    assert tally.take(range(10, 100), set()) is None
    assert tally.take(range(100, 110), set(range(100, 110))) is None
    assert "11 of 11 records" in (tally.take([110], {110}) or "")


def test_what_is_read_again_is_not_counted_again():
    """A bundle that failed downstream brings the same records once more."""
    tally = Tally(DeadLetterLimit(consecutive=4))
    for _ in range(5):
        assert tally.take([7, 9, 20], {7, 9, 20}) is None
    assert tally.take([21], {21}) is not None


@pytest.mark.parametrize(
    "options", [{}, {"consecutive": 0}, {"ratio": 1.0}, {"ratio": -0.1}, {"ratio": 0.5, "window": 0}]
)
def test_limits_that_limit_nothing_are_refused(options):
    """Options are checked when the pipeline is built."""
    with pytest.raises(ConfigError, match="DeadLetterLimit"):
        DeadLetterLimit(**options)
