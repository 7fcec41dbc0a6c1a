"""A sync group as somebody sees it who is no member: from the records of its topic alone."""

import pytest

from beam_unified.errors import ConfigError, UnknownTopicError
from beam_unified.inspection.sync_log import SyncLog
from beam_unified.offsets import TopicPartition
from beam_unified.sync import wire
from beam_unified.sync.reports import LimitChange, Phase, RateLimit, Report
from beam_unified.testing import InMemoryLog

GROUP = "replay"
A, B = TopicPartition("pins", 0), TopicPartition("pins", 1)


@pytest.fixture
def topic():
    return InMemoryLog("reports")


def report(member, position, sequence=0, *, phase=Phase.KAFKA):
    return Report(
        member=member,
        watermark=position * 1_000,
        position=position,
        phase=phase,
        partitions=2,
        author="x",
        sequence=sequence,
    )


def say(topic, at_ms, *entries, run="monday", group=GROUP):
    for entry in entries:
        key, value = wire.encode(group, run, entry)
        topic.append(0, value, key=key, timestamp=at_ms)


def seen(topic):
    log = SyncLog(topic.kafka, topic.topic, GROUP)
    log.read_to_end()
    return log


def test_a_member_is_what_its_newest_report_says(topic):
    """With its rate over the last ten seconds, and how long it has been silent by the log's time."""
    for second in range(30):
        say(topic, second * 1_000, report(A, second * second, second))
    say(topic, 31_500, report(B, 7))
    first, second = seen(topic).members("monday")
    assert (first.report.member, first.report.position, first.silent_ms) == (A, 29 * 29, 2_500)
    assert first.offsets_per_s == pytest.approx((29 * 29 - 19 * 19) / 10)
    assert (second.report.position, second.offsets_per_s, second.silent_ms) == (7, None, 0)


def test_who_is_held_is_told_by_what_and_waits_for_whom(topic):
    """Drift: for the slowest. What a gate waits for is not in the log."""
    say(topic, 0, report(A, 900, phase=Phase.HELD_BY_DRIFT), report(B, 5))
    ahead, behind = seen(topic).members("monday")
    assert (ahead.held_by, behind.held_by, behind.waits_for) == ("drift", None, None)
    assert "pins[1]" in str(ahead.waits_for)
    say(topic, 1, report(A, 900, 1, phase=Phase.HELD_BY_GATE))
    held = seen(topic).members("monday")[0]
    assert (held.held_by, held.waits_for) == ("gate", None)


def test_runs_and_groups_are_kept_apart(topic):
    """The run that spoke last is meant, unless one is named."""
    say(topic, 0, report(A, 1), run="tuesday")
    say(topic, 5, report(A, 2))
    say(topic, 9, report(A, 3), run="sunday", group="another")
    topic.append(0, b"not an entry", key=b"nor a key", timestamp=10)
    log = seen(topic)
    assert (log.runs(), log.run(None), log.run("tuesday")) == ({"tuesday": 0, "monday": 5}, "monday", "tuesday")
    assert [one.report.position for one in log.members("tuesday")] == [1]
    with pytest.raises(ConfigError, match="tuesday, monday"):
        log.run("sunday")


def test_a_changed_limit_shows(topic):
    """The newest one, for every reader of the topic."""
    limits = [LimitChange(topic="pins", limit=RateLimit(records_per_s=n)) for n in (10, 20)]
    say(topic, 0, report(A, 1), *limits)
    assert seen(topic).members("monday")[0].limit == RateLimit(records_per_s=20)


def test_a_group_that_never_ran_is_an_error(topic):
    """No topic, or nothing of the group in it; nothing is created."""
    with pytest.raises(UnknownTopicError):
        SyncLog(topic.kafka, "another", GROUP)
    with pytest.raises(ConfigError, match="no run"):
        seen(topic).run(None)
