"""Which partitions there are, and what is known about the time of those that appear later (R10)."""

import pickle
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from beam_unified.errors import ArchiveUnavailableError, ConfigError, KafkaUnavailableError, UnknownTopicError
from beam_unified.event_time import KafkaTimestamp
from beam_unified.offsets import TopicPartition
from beam_unified.positions import Start, Stop
from beam_unified.source import joint
from beam_unified.source.discovery import Assigned, PollPartitions, find_partitions
from beam_unified.testing import InMemoryLog, InMemoryTopics, ManualClock
from beam_unified.transforms import ReadUnified

LATENESS_MS = 500


@pytest.fixture
def clock():
    return ManualClock(10_000)


@pytest.fixture
def topics():
    return InMemoryTopics(InMemoryLog("pins", partitions=2), InMemoryLog("views"))


def options_of(topics, topic, clock, **options):
    read = ReadUnified(
        topic, topics.kafka, topics.archive, timestamp_fn=KafkaTimestamp(), clock=clock,
        max_out_of_orderness=timedelta(milliseconds=LATENESS_MS), **options,
    )  # fmt: skip
    return read._options


def times_of(result):
    """Partition -> timestamp in milliseconds, of what a poll gave."""
    return {found.value[:2]: found.timestamp.micros // 1_000 for found in result.outputs}


class Watched:
    """A poll function, asked as `Watch` would, and the clock it goes by."""

    def __init__(self, options, clock):
        self.poll = PollPartitions(options)
        self.at_start = find_partitions(options)
        self.clock = clock

    def after(self, seconds):
        self.clock.advance(seconds * 1_000)
        return self.poll(self.at_start)


@pytest.mark.rule("R10")
@pytest.mark.parametrize("topic", [["pins", "views"], re.compile("pins|view."), re.compile(".*")])
def test_all_partitions_of_all_topics_are_found(topics, clock, topic):
    """By name and by pattern; they were there, so nothing is known of a time at which they were not."""
    found = find_partitions(options_of(topics, topic, clock))
    assert sorted(found) == [
        Assigned("pins", 0, partitions=2), Assigned("pins", 1, partitions=2), Assigned("views", 0, partitions=1),
    ]  # fmt: skip


@pytest.mark.rule("R10")
def test_a_pattern_is_matched_against_the_whole_name(topics, clock):
    """One that matches a beginning only is another name."""
    assert find_partitions(options_of(topics, re.compile("pin|views"), clock)) == (Assigned("views", 0),)


@pytest.mark.rule("R10", "B2")
def test_a_pattern_that_matches_nothing_waits_or_fails(topics, clock, caplog):
    """A live read may begin before its first topic; a bounded one would be empty by mistake."""
    none = re.compile("nothing")
    assert find_partitions(options_of(topics, none, clock)) == ()
    assert "no topic matches /nothing/" in caplog.text
    with pytest.raises(UnknownTopicError, match=r"no topic matches /nothing/.*check the pattern"):
        find_partitions(options_of(topics, none, clock, stop=Stop.now()))


@pytest.mark.rule("B2")
@pytest.mark.parametrize("option", ["start", "stop"])
def test_offsets_must_cover_every_topic(topics, clock, option):
    """Left out by accident, a partition would be read from somewhere else."""
    offsets = {"start": Start.offsets, "stop": Stop.offsets}[option]
    with pytest.raises(ConfigError, match=rf"{option} gives no offset for partition 1 of topic 'pins'"):
        find_partitions(options_of(topics, "pins", clock, **{option: offsets({0: 0})}))
    with pytest.raises(ConfigError, match=f"{option} gives no offsets for topic 'views'"):
        find_partitions(options_of(topics, ["pins", "views"], clock, **{option: offsets({"pins": {0: 0, 1: 0}})}))


@pytest.mark.rule("B2")
def test_a_topic_that_the_archive_does_not_hold_is_refused(topics, clock):
    """Its history would be missing without a word."""
    options = options_of(topics, ["pins", "views"], clock)
    only_pins = replace(options, archive=InMemoryTopics(topics.log("pins")).archive)
    with pytest.raises((ArchiveUnavailableError, UnknownTopicError), match="views"):
        find_partitions(only_pins)


@pytest.mark.rule("R10")
def test_a_new_partition_carries_the_time_of_the_poll_that_did_not_see_it(topics, clock):
    """None of its records is older; so much, and no more, the watermark may have passed."""
    watched = Watched(options_of(topics, "pins", clock), clock)
    first = watched.after(0)
    assert first.watermark is None
    assert set(times_of(first)) == {("pins", 0), ("pins", 1)}
    second = watched.after(5)
    assert second.watermark.micros == (10_000 - LATENESS_MS) * 1_000
    topics.log("pins").add_partition()
    third = watched.after(5)
    assert times_of(third)["pins", 2] == 15_000 - LATENESS_MS
    assert third.watermark.micros == (15_000 - LATENESS_MS) * 1_000
    (new,) = [found.value for found in third.outputs if found.value[1] == 2]
    assert new == Assigned("pins", 2, 15_000, partitions=3)


@pytest.mark.rule("R10")
def test_a_new_topic_of_the_pattern_is_found(topics, clock):
    """And one that does not match is not."""
    watched = Watched(options_of(topics, re.compile("pins.*"), clock), clock)
    watched.after(0)
    topics.add(InMemoryLog("pins-eu"))
    topics.add(InMemoryLog("other"))
    assert set(times_of(watched.after(5))) == {("pins", 0), ("pins", 1), ("pins-eu", 0)}


@pytest.mark.rule("R10")
def test_a_worker_that_has_just_come_knows_no_time(topics, clock):
    """The poll before it was another's: what is new may hold any time, and the watermark stays."""
    options = options_of(topics, "pins", clock)
    watched = Watched(options, clock)
    watched.after(0)
    watched.poll = pickle.loads(pickle.dumps(watched.poll))
    topics.log("pins").add_partition()
    result = watched.after(5)
    assert result.watermark is None
    assert times_of(result)["pins", 2] == -LATENESS_MS


@pytest.mark.rule("R10")
def test_a_poll_that_fails_allows_nothing_and_is_made_good(topics, clock, monkeypatch):
    """A broker that is away for a while hides nothing that appears meanwhile."""
    watched = Watched(options_of(topics, "pins", clock), clock)
    watched.after(0)
    with monkeypatch.context() as down:
        down.setattr(PollPartitions, "_look", _no_broker)
        failed = watched.after(5)
    assert (failed.outputs, failed.watermark) == ((), None)
    topics.log("pins").add_partition()
    after = watched.after(5)
    assert times_of(after)["pins", 2] == 10_000 - LATENESS_MS
    assert after.watermark.micros == (10_000 - LATENESS_MS) * 1_000


def _no_broker(_self):
    raise KafkaUnavailableError("no broker")


@pytest.mark.rule("R10", "T1")
def test_where_there_is_one_watermark_the_search_takes_part_in_it(topics, clock):
    """A partition found a moment ago holds the others before its reader has been called once."""
    options = replace(options_of(topics, "pins", clock), one_watermark=True)
    watched, watermark = Watched(options, clock), joint.begin(options.key)
    watched.after(0)
    for found in watched.at_start:
        watermark.report(TopicPartition(*found[:2]), 60_000_000)
    assert watermark.earliest(60_000_000) is None
    watched.after(5)
    assert watermark.earliest(60_000_000) == (10_000 - LATENESS_MS) * 1_000
    topics.log("pins").add_partition()
    watched.after(5)
    watched.after(5)
    assert watermark.earliest(60_000_000) == (15_000 - LATENESS_MS) * 1_000
