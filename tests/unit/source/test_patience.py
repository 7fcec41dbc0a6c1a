"""Who may wait inside of a call (R8)."""

import pytest

from beam_unified.source.patience import Patience, shared_patience
from beam_unified.testing import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def patience(clock):
    return Patience(clock)


@pytest.mark.rule("R8")
def test_only_an_idle_worker_waits(patience, clock):
    """A wait delays every other partition: at most 100 ms, and only when none of them has work."""
    assert 0 < patience.of("a") <= 100
    patience.had_work("b", had_work=True)
    assert patience.of("a") == 0
    patience.had_work("b", had_work=False)
    assert patience.of("a") > 0
    patience.had_work("b", had_work=True)
    clock.advance(1_001)
    assert patience.of("a") > 0


@pytest.mark.rule("R8")
def test_its_own_work_does_not_keep_a_partition_from_waiting(patience):
    """It has caught up; nobody else is delayed."""
    patience.had_work("a", had_work=True)
    assert patience.of("a") > 0


@pytest.mark.rule("R8")
def test_one_of_many_idle_partitions_waits_for_all(patience, clock):
    """If each waited in turn, a record of the last would be seen after the waits of all others."""
    for _ in range(20):
        assert patience.of("a") > 0
        assert patience.of("b") == 0
        assert patience.of("c") == 0
        clock.advance(500)


@pytest.mark.rule("R8")
def test_another_takes_over_from_a_partition_that_is_not_heard_of(patience, clock):
    """It has moved to another worker, or is done: an idle worker must not spin."""
    assert patience.of("a") > 0
    clock.advance(1_001)
    assert patience.of("b") > 0
    assert patience.of("a") == 0


@pytest.mark.rule("R8")
def test_the_transforms_of_a_group_share_theirs():
    """A source that waits for its gate must not keep the one from reading for which it waits."""
    flights, weather = shared_patience("run", ManualClock()), shared_patience("run", ManualClock())
    weather.had_work("weather", had_work=True)
    assert flights.of("flights") == 0
    assert shared_patience("another run", ManualClock()).of("flights") > 0


class _Waits(ManualClock):
    """Remembers who waited."""

    def __init__(self):
        super().__init__()
        self.waited = []

    def wait(self, seconds):
        self.waited.append(seconds)


@pytest.mark.rule("R8")
def test_a_held_reader_waits_only_while_nobody_has_work():
    """At most 100 ms, and not at all where that delays another."""
    clock = _Waits()
    patience = Patience(clock)
    patience.wait("a")
    assert clock.waited == [0.1]
    patience.had_work("b", had_work=True)
    patience.wait("a")
    assert clock.waited == [0.1]
