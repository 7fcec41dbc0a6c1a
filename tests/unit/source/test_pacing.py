"""How much a call does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.source.pacing import CallBudget, Pace


@pytest.mark.rule("R8")
@pytest.mark.parametrize(
    ("records", "size_bytes", "seconds", "spent"),
    [
        (0, 0, 0.0, False),
        (9, 99, 0.9, False),
        (10, 0, 0.0, True),
        (0, 100, 0.0, True),
        (0, 0, 1.0, True),
        (11, 0, 0.0, True),
        (0, 101, 0.0, True),
        (0, 0, 1.1, True),
    ],
)
def test_a_call_ends_with_whichever_limit_comes_first(records, size_bytes, seconds, spent):
    """Records, bytes or time."""
    budget = CallBudget(records=10, size_bytes=100, seconds=1.0)
    assert budget.spent(records=records, size_bytes=size_bytes, seconds=seconds) == spent


@pytest.mark.rule("R8")
def test_the_default_budget_is_short():
    """Measured: 0.1 to 0.2 s is where checkpoints pass and self-checkpoints cost little."""
    assert 0.1 <= CallBudget().seconds <= 0.2


@pytest.mark.rule("R8")
def test_the_defaults_are_those_that_were_measured():
    """Whoever changes one measures again: `tox run -e bench`."""
    assert CallBudget() == CallBudget(records=200_000, size_bytes=2**26, seconds=0.15, batch_records=2**12)
    assert Pace() == Pace(2**10)


@pytest.mark.rule("R8")
@given(
    st.integers(1, 10_000),
    st.integers(0, 10_000),
    st.floats(0, 100, allow_subnormal=False),
    st.floats(0.01, 1.0),
)
def test_pace_stays_within_its_limits(before, records, seconds, call_seconds):
    """Never a standstill, at most twice as much as before, and a claimed batch takes a part of the call's time."""
    budget = CallBudget(seconds=call_seconds)
    after = Pace(before).after(records=records, seconds=seconds, budget=budget)
    if records == 0:
        assert after == Pace(before)
        return
    assert after.records >= 1
    assert after.records <= max(16, before * 2)
    if seconds > 0 and after.records > 16:
        assert after.records * seconds / records <= call_seconds


@pytest.mark.rule("R8")
def test_pace_finds_what_a_slow_stage_can_take():
    """A stage that takes 1 ms a record is given batches of a fraction of the call, whatever it began with."""
    pace, budget = Pace(), CallBudget(seconds=0.15)
    for _ in range(10):
        pace = pace.after(records=pace.records, seconds=pace.records * 0.001, budget=budget)
    assert 16 <= pace.records <= 75


@pytest.mark.rule("R8")
def test_pace_grows_again_when_the_stage_is_fast():
    """Doubling: a slow start does not cost throughput for long."""
    pace, budget = Pace(16), CallBudget()
    for _ in range(9):
        pace = pace.after(records=pace.records, seconds=pace.records * 1e-7, budget=budget)
    assert pace.records == 16 * 2**9


@pytest.mark.rule("R8")
@given(st.integers(16, 10_000), st.integers(1, 10_000), st.integers(1, 10_000))
def test_a_batch_takes_a_fifth_of_the_call(before, records, milliseconds):
    """As exactly as the last batch tells, between the smallest batch, 16 records, and twice the last pace."""
    after = Pace(before).after(records=records, seconds=milliseconds / 1_000, budget=CallBudget(seconds=1.0))
    fifth = records * 200 / milliseconds
    assert after.records == pytest.approx(max(16, min(before * 2, fifth)), abs=1)
    assert after.records >= 16


@pytest.mark.rule("R8")
def test_a_batch_of_nothing_tells_nothing():
    """An empty poll is no sign of a fast stage."""
    assert Pace(100).after(records=0, seconds=0.0, budget=CallBudget()) == Pace(100)
    assert Pace(100).after(records=0, seconds=9.0, budget=CallBudget()) == Pace(100)
    assert Pace(100).after(records=1, seconds=0.0, budget=CallBudget()) == Pace(200)
