"""What users say about synchronisation is checked when they say it (S2, S3, S4)."""

import pickle
from datetime import UTC, datetime, timedelta

import pytest

from beam_unified.errors import ConfigError
from beam_unified.positions import LAUNCH
from beam_unified.sync.options import Gate, GateMode, SyncGroup, check_gates
from beam_unified.sync.reports import NO_LIMIT, RateLimit
from beam_unified.testing import ManualClock

NOW_MS = 1_794_830_400_000


def group(*topics, **options):
    return SyncGroup("group", topics or ("weather", "flights"), clock=ManualClock(NOW_MS), **options)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"max_drift": "0s"}, "max_drift must be at least a millisecond"),
        ({"max_drift": 60}, "max_drift takes a timedelta or text"),
        ({"max_drift": timedelta(-1)}, "max_drift: a duration must not be negative"),
        ({"report_interval": "soon"}, "report_interval: 'soon' is not a duration"),
        ({"stale_after": "2s"}, "less than three report intervals"),
        ({"on_stale": "wait"}, "on_stale must be 'hold' or 'ignore', got 'wait'"),
        ({"run_id": 7}, "run_id must be text"),
    ],
)
def test_a_bad_option_is_named(options, reason):
    """With its value."""
    with pytest.raises(ConfigError, match=reason):
        group(**options)


@pytest.mark.parametrize("topics", ["weather", [], ["weather", "weather"], ["weather", ""], [7]])
def test_topics_are_a_list_of_different_names(topics):
    """A single text is not taken apart into letters."""
    with pytest.raises(ConfigError, match="topics"):
        SyncGroup("group", topics)


@pytest.mark.parametrize("name", ["", "my group", "a/b", "x" * 201, 7])
def test_a_name_must_fit_into_the_name_of_a_topic(name):
    """Said when the group is made, not by a thread on a worker."""
    with pytest.raises(ConfigError, match="SyncGroup name must be letters"):
        SyncGroup(name, ["weather"])


def test_durations_are_what_other_options_take():
    """Text or timedelta."""
    found = group(max_drift="15m", stale_after=timedelta(seconds=10), report_interval=timedelta(milliseconds=500))
    assert (found.drift, found.stale_after_ms, found.report_interval_ms) == (900_000_000, 10_000, 500)
    assert group().drift is None


@pytest.mark.rule("S6")
def test_every_group_is_a_run_of_its_own_unless_told_and_stays_it_when_pickled():
    """Runs never see each other; a restart of the job is the same run."""
    one = group()
    assert one.run_id != group().run_id
    assert pickle.loads(pickle.dumps(one)).run_id == one.run_id
    assert group(run_id="savepoint-7").run_id == "savepoint-7"


@pytest.mark.rule("R6")
def test_launch_is_one_instant_for_the_whole_group():
    """Fixed when the group is made, however late the readers are."""
    clock = ManualClock(NOW_MS)
    found = SyncGroup("group", ["a", "b", "c"], clock=clock)
    clock.advance(5_000)
    rules = [found.rules([topic], wait_for={"a": LAUNCH}) for topic in "bc"]
    assert [one.gates for one in rules] == [(Gate(topic="a", until=NOW_MS * 1_000),)] * 2
    assert repr(LAUNCH) == "LAUNCH"


@pytest.mark.rule("S3")
def test_gates_take_instants_as_starts_do():
    """Text with a zone or aware datetime; the mode by its name."""
    at = datetime(2026, 11, 16, tzinfo=UTC)
    for instant in (at, "2026-11-16T00:00:00Z", "2026-11-16T01:00:00+01:00"):
        rules = group().rules(["flights"], wait_for={"weather": instant}, mode="not_past")
        assert rules.gates == (Gate(topic="weather", until=round(at.timestamp()) * 1_000_000),)
        assert rules.mode is GateMode.NOT_PAST
    assert str(rules.gates[0]) == "topic 'weather' to reach 2026-11-16T00:00:00.000Z"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"topics": ["pins"]}, "topic 'pins' is not in sync group 'group'"),
        ({"wait_for": {"pins": LAUNCH}}, "'flights' waits for topic 'pins', which is not in sync group 'group'"),
        ({"wait_for": {"flights": LAUNCH}}, "in a circle, flights -> flights"),
        ({"wait_for": {"weather": "2026-11-16"}}, "wait_for topic 'weather': 2026-11-16T00:00:00 has no time zone"),
        ({"wait_for": {"weather": 7}}, "wait_for topic 'weather' takes"),
        ({"mode": "open"}, "mode must be 'closed' or 'not_past', got 'open'"),
        ({"limit": 1_000}, "rate_limit must be a RateLimit"),
    ],
)
def test_rules_that_cannot_work_are_refused(options, reason):
    """When the pipeline is built."""
    with pytest.raises(ConfigError, match=reason):
        group().rules(**{"topics": ["flights"], **options})


@pytest.mark.rule("S3")
def test_a_circle_of_gates_is_refused_and_shown():
    """Over any number of topics; a topic that several wait for is none."""
    one, two = Gate(topic="b", until=0), Gate(topic="c", until=0)
    found = group("a", "b", "c", "d")
    check_gates(found, {"a": [one, two], "b": [two], "d": [one]})
    with pytest.raises(ConfigError, match="in a circle, a -> b -> c -> a"):
        check_gates(found, {"d": [one], "a": [one], "b": [two], "c": [Gate(topic="a", until=0)]})


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "7"])
@pytest.mark.parametrize("option", ["records_per_s", "bytes_per_s"])
def test_a_limit_is_a_number_above_zero(option, value):
    """No limit is None."""
    with pytest.raises(ConfigError, match=option):
        RateLimit(**{option: value})
    assert RateLimit() == NO_LIMIT
