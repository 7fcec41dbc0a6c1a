"""The watermark of one partition: one rule a test; tests/properties/test_watermarks.py plays them against each other."""

import pytest

from beam_unified.watermarks import IdlePolicy, WatermarkState, busy, emitted, late, nothing_new, start_call

ADVANCE = IdlePolicy(advance=True, timeout_ms=10_000)
HOLD = IdlePolicy(advance=False, timeout_ms=10_000)
SECOND = 1_000_000


@pytest.mark.rule("T1")
def test_emitting_earns_newest_minus_out_of_orderness():
    """Rule 1: a call earns what its newest record allows."""
    assert emitted(WatermarkState(), 50_000, 20_000).earned == 30_000


@pytest.mark.rule("T4")
def test_what_was_earned_is_reported_from_the_next_call_on():
    """Rule 2: nothing emitted in a call is covered by the watermark that leaves with that call."""
    during = emitted(start_call(WatermarkState(reported=5_000)), 50_000, 20_000)
    assert during.reported == 5_000
    assert start_call(during).reported == 30_000


@pytest.mark.rule("T1")
def test_older_records_do_not_take_back_what_was_earned():
    """Rule 4, within a call and over calls."""
    state = emitted(emitted(WatermarkState(), 50_000, 20_000), 10_000, 20_000)
    assert state.earned == 30_000
    assert start_call(state).reported == 30_000


@pytest.mark.rule("T1")
def test_an_initial_watermark_is_not_taken_back_by_older_records():
    """What was reported to the runner stays reported."""
    assert start_call(emitted(WatermarkState(reported=100_000), 50_000, 20_000)).reported == 100_000


@pytest.mark.rule("T2")
def test_an_idle_partition_follows_the_clock_after_the_timeout():
    """Rule 3: not before the timeout has passed, then now - max_out_of_orderness."""
    state = nothing_new(WatermarkState(), 1_000, SECOND, ADVANCE)
    assert (state.idle_since_ms, state.earned) == (1_000, None)
    assert nothing_new(state, 10_999, SECOND, ADVANCE).earned is None
    assert nothing_new(state, 11_000, SECOND, ADVANCE).earned == 11_000_000 - SECOND


@pytest.mark.rule("T2")
def test_an_idle_partition_holds_where_the_user_says_so():
    """`on_idle="hold"`: event time may be years from the clock."""
    state = nothing_new(nothing_new(WatermarkState(earned=7), 0, 0, HOLD), 10**9, 0, HOLD)
    assert state.earned == 7


@pytest.mark.rule("T2")
def test_idleness_starts_anew_after_a_record():
    """A record ends the spell: the timeout runs again from the next empty fetch."""
    state = emitted(nothing_new(WatermarkState(), 0, 0, ADVANCE), 5 * SECOND, 0)
    assert state.idle_since_ms is None
    assert nothing_new(state, 60_000, 0, ADVANCE).earned == 5 * SECOND


@pytest.mark.rule("T2")
def test_idleness_starts_anew_when_nobody_can_know():
    """A silent broker or an open transaction is no idle partition."""
    assert busy(nothing_new(WatermarkState(reported=1, earned=2), 0, 0, ADVANCE)) == WatermarkState(
        reported=1, earned=2
    )
    unchanged = WatermarkState(reported=1)
    assert busy(unchanged) is unchanged


@pytest.mark.rule("T1")
def test_a_wall_clock_that_jumps_back_takes_nothing_back():
    """NTP may set the clock back by any amount."""
    state = nothing_new(nothing_new(WatermarkState(), 0, 0, ADVANCE), 20_000, 0, ADVANCE)
    assert state.earned == 20_000_000
    back = nothing_new(state, -5_000, 0, ADVANCE)
    assert (back.earned, back.idle_since_ms) == (20_000_000, -5_000)


@pytest.mark.rule("T2")
def test_a_timeout_of_zero_follows_the_clock_at_once():
    """The first empty fetch counts."""
    assert nothing_new(WatermarkState(), 7, 0, IdlePolicy(advance=True, timeout_ms=0)).earned == 7_000


@pytest.mark.rule("T4")
@pytest.mark.parametrize(("newest", "earned"), [(1_999, 1_000), (2_000, 2_000), (-1, -1_000), (-1_000, -1_000)])
def test_watermarks_are_whole_milliseconds_rounded_down(newest, earned):
    """Rule 5: runners carry timestamps in milliseconds; a fraction more would make the newest record itself late."""
    assert emitted(WatermarkState(), newest, 0).earned == earned


def test_nothing_earned_reports_nothing():
    """None is the minimum, and stays it until something is known."""
    assert start_call(WatermarkState()) == WatermarkState()


@pytest.mark.rule("T3")
@pytest.mark.parametrize(
    ("earned", "times", "expected"),
    [
        (None, [5_000, 1_000], (0, 0, 0)),  # exactly as far behind as allowed
        (None, [5_000, 999, 0], (2, 1_001, 1_000)),
        (None, [0, 5_000], (0, 0, 0)),  # what comes later makes nothing late that came before it
        (3_000, [2_999, 9_000], (1, 1, 1)),
        (3_000, [3_000], (0, 0, 0)),
    ],
)
def test_late_is_what_lies_further_back_than_promised(earned, times, expected):
    """Counted against the newest record before it, in its batch or an earlier one."""
    assert late(WatermarkState(earned=earned), times, 4_000) == expected
