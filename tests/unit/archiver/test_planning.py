"""What an archiver does first, and when a flush is due."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from beam_unified.archiver.planning import Finish, FlushLimits, Read, Refuse, Settle, plan


@given(position=st.integers(0, 50), claims=st.sets(st.integers(0, 50), max_size=4))
def test_what_is_left_of_others_comes_first(position, claims):
    """A2: dead and announced claims are settled from the oldest on, nothing is read while one is open, none is jumped over."""
    match plan(position, claims):
        case Settle(found):
            assert found == min(claims) < position
        case Refuse(found):
            assert found == max(claims) > position
            assert min(claims) >= position
        case Finish():
            assert claims == {position}
        case Read():
            assert claims == set()


def test_a_flush_is_due_at_the_first_limit():
    """Records, bytes, age."""
    limits = FlushLimits(records=10, size_bytes=100, age=timedelta(seconds=5))
    assert not limits.due(records=9, size_bytes=99, age_s=4.9)
    assert limits.due(records=10, size_bytes=0, age_s=0)
    assert limits.due(records=1, size_bytes=100, age_s=0)
    assert limits.due(records=1, size_bytes=0, age_s=5)
    assert [limits.room(records) for records in (0, 9, 10, 11)] == [10, 1, 0, 0]
    assert limits.due(records=11, size_bytes=0, age_s=0)
    assert limits.due(records=1, size_bytes=101, age_s=0)
    assert limits.due(records=1, size_bytes=0, age_s=6)


def test_the_defaults_are_as_documented():
    """docs/archiving.md: files that query engines like."""
    defaults = FlushLimits()
    assert (defaults.records, defaults.size_bytes, defaults.age) == (5_000_000, 134_217_728, timedelta(minutes=10))
