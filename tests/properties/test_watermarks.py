"""The watermark under any sequence of calls, records, idle spells and jumps of the clock (T1, T2, T4)."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.source.coders import WatermarkStateCoder
from beam_unified.source.watermark import LogWatermarkEstimator
from beam_unified.watermarks import IdlePolicy, WatermarkState, emitted, late
from tests.strategies import idle_policies, watermark_states


@dataclass(frozen=True)
class Emit:
    """A batch whose newest record is at this many microseconds."""

    newest: int


@dataclass(frozen=True)
class Empty:
    """A fetch at the end that found nothing, so many milliseconds after the last thing that happened."""

    later_ms: int


@dataclass(frozen=True)
class Busy:
    """A fetch that could not say."""


EVENTS = st.one_of(
    st.builds(Emit, st.integers(-(10**9), 10**9)), st.builds(Empty, st.integers(-20_000, 60_000)), st.just(Busy())
)
CALLS = st.lists(st.lists(EVENTS, max_size=4), max_size=8)
DISORDER = st.integers(0, 10**7)


def whole_ms(micros):
    """What runners carry: milliseconds, rounded down."""
    return micros // 1_000 * 1_000


def play(calls, disorder, policy, initial=None):
    """Plays calls, each from the state that the last one left, as bytes; yields (reported before, events, after)."""
    coder, now_ms = WatermarkStateCoder(), 0
    state = coder.encode(WatermarkState(reported=initial))
    for events in calls:
        estimator = LogWatermarkEstimator(coder.decode(state))
        estimator.start_call()
        before = estimator.get_estimator_state().reported
        for event in events:
            match event:
                case Emit(newest):
                    estimator.emitted(newest, disorder)
                case Empty(later_ms):
                    now_ms = max(0, now_ms + later_ms)
                    estimator.nothing_new(now_ms, disorder, policy)
                case Busy():
                    estimator.busy()
        yield before, events, estimator.get_estimator_state()
        state = coder.encode(estimator.get_estimator_state())


@pytest.mark.rule("T1")
@given(CALLS, DISORDER, idle_policies(), st.none() | st.integers(-(10**9), 10**9))
def test_what_is_reported_never_goes_back(calls, disorder, policy, initial):
    """Through calls, restores, idle spells and a wall clock that jumps."""
    last = initial
    for _, _, state in play(calls, disorder, policy, initial):
        assert last is None or (state.reported is not None and state.reported >= last)
        last = state.reported


@pytest.mark.rule("T4")
@given(CALLS, DISORDER, idle_policies())
def test_what_is_reported_does_not_move_inside_of_a_call(calls, disorder, policy):
    """The watermark that leaves with a residual covers nothing that was emitted in the same call."""
    for before, _, state in play(calls, disorder, policy):
        assert state.reported == before


@pytest.mark.rule("T1")
@given(CALLS, DISORDER, st.none() | st.integers(-(10**9), 10**9))
def test_without_idle_advance_it_is_newest_emitted_before_minus_disorder(calls, disorder, initial):
    """Exactly, not only at most: lagging behind would hold every window back."""
    newest = None
    for reported, events, _ in play(calls, disorder, IdlePolicy(advance=False, timeout_ms=0), initial):
        expected = [at for at in (initial, None if newest is None else whole_ms(newest - disorder)) if at is not None]
        assert reported == max(expected, default=None)
        newest = max(
            [e.newest for e in events if isinstance(e, Emit)] + ([] if newest is None else [newest]), default=None
        )


@pytest.mark.rule("T2")
@given(CALLS, DISORDER, idle_policies())
def test_idleness_advances_only_after_the_timeout_without_a_break(calls, disorder, policy):
    """Never above the newest record or the end of a full idle spell, less the disorder; exact against a plain model."""
    allowed, since, now_ms = list[int](), None, 0
    for reported, events, _ in play(calls, disorder, policy):
        assert reported == max(allowed, default=None)
        for event in events:
            match event:
                case Emit(newest):
                    allowed.append(whole_ms(newest - disorder))
                    since = None
                case Empty(later_ms):
                    now_ms = max(0, now_ms + later_ms)
                    since = now_ms if since is None else min(since, now_ms)
                    if policy.advance and now_ms - since >= policy.timeout_ms:
                        allowed.append(whole_ms(now_ms * 1_000 - disorder))
                case Busy():
                    since = None


@pytest.mark.rule("T1")
@given(st.lists(st.integers(-(10**6), 10**6), min_size=1, max_size=40), st.data())
def test_records_at_most_that_much_out_of_order_are_never_late(times, data):
    """Whatever way the records are cut into calls: none is below what was reported when it was emitted."""
    newest, disorder = times[0], 0
    for time in times:
        newest = max(newest, time)
        disorder = max(disorder, newest - time)
    calls = []
    while times:
        count = data.draw(st.integers(1, len(times)))
        calls.append([Emit(time) for time in times[:count]])
        times = times[count:]
    for reported, events, _ in play(calls, disorder, IdlePolicy(advance=False, timeout_ms=0)):
        assert all(reported is None or whole_ms(event.newest) >= reported for event in events)


@given(watermark_states())
def test_the_estimator_reports_what_its_state_says(state):
    """Beam's Timestamp and our microseconds are one number; None is the minimum."""
    estimator = LogWatermarkEstimator(state)
    if state.reported is not None:
        assert estimator.current_watermark().micros == state.reported
    assert estimator.get_estimator_state() == state


MILLIS = st.integers(-(10**6), 10**6).map(lambda millis: millis * 1_000)


@given(st.lists(st.lists(MILLIS, min_size=1, max_size=6), max_size=5), st.integers(0, 10**6).map(lambda at: at * 1_000))
def test_late_records_are_those_that_a_plain_search_finds(batches, disorder):
    """Late is what lies more than the disorder before an earlier record: how many, by how much together, and the worst."""
    state, newest = WatermarkState(), -(10**12)
    for batch in batches:
        behind = []
        for at in batch:
            newest = max(newest, at)
            behind.append(newest - disorder - at)
        too_late = [lateness for lateness in behind if lateness > 0]
        assert late(state, batch, disorder) == (len(too_late), sum(too_late), max(too_late, default=0))
        state = emitted(state, max(batch), disorder)
