"""One worker's side of a sync group: when it reports, what it says to its readers, what it does when the log is lost."""

import logging
import os
from dataclasses import replace
from typing import Any

import pytest

from beam_unified.offsets import TopicPartition
from beam_unified.sync import synchronizer
from beam_unified.sync.options import Gate, GateMode, ReaderRules, SyncGroup
from beam_unified.sync.policy import Hold
from beam_unified.sync.rates import Claims, Share
from beam_unified.sync.reports import ALL_OF_IT, PAST_ALL, Phase, RateLimit
from tests.sync_world import Reader, World

SECOND = 1_000_000
WEATHER, FLIGHTS = TopicPartition("weather", 0), TopicPartition("flights", 0)
GATED = ReaderRules(gates=(Gate(topic="weather", until=1_000 * SECOND),))


def world(*workers, **options):
    """Two topics, a reader each unless said otherwise."""
    return World(
        lambda clock, log: SyncGroup("group", ["weather", "flights"], coordinator=log, clock=clock, **options),
        workers or ([Reader(WEATHER)], [Reader(FLIGHTS)]),
    )


def of_topic(group, topic):
    return [reader for reader in group.readers if reader.member.topic == topic]


@pytest.mark.rule("S1")
def test_a_member_that_nobody_has_heard_of_holds_gate_and_drift():
    """Partition 1 of the other topic exists, by its metadata, and its worker is slow to start."""
    early, slow = Reader(WEATHER, partitions=2), Reader(TopicPartition("weather", 1), partitions=2)
    group = world([early], [Reader(FLIGHTS, GATED)], [slow], max_drift="1h")
    group.pass_ms(60_000, only=[0, 1])
    assert [early.turn.hold, group.workers[1][1][0].turn.hold] == [Hold.DRIFT, Hold.GATE]
    group.pass_ms(60_000)
    assert group.workers[1][1][0].position > 0


@pytest.mark.rule("S3")
def test_a_gate_closes_again_when_the_awaited_topic_goes_back():
    """After a restore its readers are where they were at the checkpoint: the newest report counts, though it says less."""
    group = world([Reader(WEATHER)], [Reader(FLIGHTS, GATED)])
    weather, flights = group.readers
    group.pass_ms(2_000)
    assert flights.turn.hold is None
    weather.position, weather.watermark, weather.batch = 10, 10 * SECOND, 0
    group.pass_ms(200)
    assert flights.turn.hold is Hold.GATE


@pytest.mark.rule("S3")
def test_not_past_reads_up_to_the_instant_and_asks_no_more_until_the_gate_opens():
    """Its own history is read; then it is held without a look at the log at every turn."""
    rules = replace(GATED, mode=GateMode.NOT_PAST)
    group = world([Reader(WEATHER, batch=0)], [Reader(FLIGHTS, rules)])
    weather, flights = group.readers
    group.pass_ms(3_000)
    assert flights.watermark == 999 * SECOND
    assert flights.turn.hold is Hold.GATE
    weather.batch = 100
    group.pass_ms(3_000)
    assert flights.watermark > 1_000 * SECOND


@pytest.mark.rule("S2")
def test_a_member_that_a_gate_holds_does_not_hold_the_drift():
    """Its watermark is the minimum all the while; the topic it waits for goes on."""
    group = world([Reader(WEATHER, batch=1, end=1_500)], [Reader(FLIGHTS, GATED)], max_drift="10s")
    weather, _ = group.readers
    group.pass_ms(30_000)
    assert weather.done


@pytest.mark.rule("S2")
@pytest.mark.parametrize("delay_ms", [5, 50])
def test_replay_under_drift_is_not_capped_by_the_report_interval(delay_ms):
    """FLINK-37399: with news once an interval, readers would go at one drift an interval. Half the drift is news."""
    group = World(
        lambda clock, log: SyncGroup("group", ["weather", "flights"], max_drift="1m", coordinator=log, clock=clock),
        ([Reader(WEATHER, batch=10)], [Reader(FLIGHTS, batch=10)]),
        lambda: delay_ms,
    )
    group.pass_ms(10_000)
    interval_s = group.group.report_interval_ms / 1_000
    for reader in group.readers:
        assert (reader.watermark or 0) / SECOND / 10 > 3 * 60 / interval_s


@pytest.mark.rule("S6")
def test_members_report_once_an_interval_when_nothing_presses():
    """With a wide drift, and with none."""
    for options in ({"max_drift": "7d"}, {}):
        group = world(**options)
        group.pass_ms(20_000)
        assert 2 * 20 <= len(group.log.entries) <= 2 * 23


@pytest.mark.rule("S5")
def test_the_watermark_may_be_reported_up_to_the_drift_above_the_minimum():
    """Whatever the own watermark is; without a drift there is no cap."""
    group = world(max_drift="1m")
    weather, flights = group.readers
    weather.batch = 1
    group.pass_ms(5_000)
    weather.batch = 0
    group.pass_ms(1_500)
    assert flights.turn.watermark_cap == weather.watermark + 60 * SECOND
    free = world()
    free.pass_ms(1_000)
    assert free.readers[0].turn.watermark_cap == PAST_ALL


@pytest.mark.rule("S6")
def test_before_the_log_is_read_everyone_is_held():
    """No news is no reason to go."""
    group = world()
    group.log.reachable = False
    group.pass_ms(5_000)
    assert {reader.turn.hold for reader in group.readers} == {Hold.COORDINATOR}
    group.log.reachable = True
    group.pass_ms(1_000)
    assert {reader.turn.hold for reader in group.readers} == {None}


@pytest.mark.rule("S6")
@pytest.mark.parametrize("on_stale", ["hold", "ignore"])
def test_a_lost_coordinator_opens_nothing_is_said_once_and_is_recovered_from(on_stale, caplog):
    """30 s without it, in mid-job: a closed gate stays closed though its time has come, and all goes on by itself."""
    caplog.set_level(logging.WARNING, "beam_unified.sync")
    group = world([Reader(WEATHER, batch=1, step=SECOND)], [Reader(FLIGHTS, GATED)], on_stale=on_stale)
    weather, flights = group.readers
    group.pass_ms(5_000)
    group.log.reachable = False
    group.pass_ms(30_000)
    assert [weather.turn.hold, flights.turn.hold] == [None, Hold.GATE]
    assert weather.watermark > 1_000 * SECOND
    health = group.workers[0][0].health()
    assert 25_000 <= health.lost_ms <= 30_000
    assert health.silent == 0
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 2
    group.log.reachable = True
    group.pass_ms(3_000)
    assert flights.turn.hold is None
    assert group.workers[0][0].health().lost_ms == 0
    assert len(caplog.records) == 4


@pytest.mark.rule("S6")
@pytest.mark.parametrize("on_stale", ["hold", "ignore"])
def test_a_silent_member_holds_unless_it_is_to_be_ignored_and_gates_wait_anyway(on_stale):
    """Its worker hangs. After `stale_after` the drift may forget it; a gate must not."""
    hangs = Reader(WEATHER, batch=1)
    group = World(
        lambda clock, log: SyncGroup(
            "group", ["weather", "flights", "ads"], max_drift="1m", on_stale=on_stale, coordinator=log, clock=clock
        ),
        ([hangs], [Reader(FLIGHTS), Reader(TopicPartition("ads", 0), GATED)]),
    )
    _, flights, ads = group.readers
    group.pass_ms(1_000)
    group.pass_ms(40_000, only=[1])
    assert ads.turn.hold is Hold.GATE
    assert flights.turn.hold is (Hold.DRIFT if on_stale == "hold" else None)
    assert group.workers[1][0].health().silent == 1
    group.pass_ms(1_000)
    assert flights.turn.hold is Hold.DRIFT


@pytest.mark.rule("S1")
def test_a_reader_that_is_done_says_so_once_and_holds_nobody():
    """It has had nothing to read; nor does it ever go silent."""
    group = world([Reader(WEATHER, end=0)], [Reader(FLIGHTS, GATED, end=20_000)], max_drift="1m")
    group.pass_ms(60_000)
    said = [logged.entry for logged in group.log.entries if logged.entry.member == WEATHER]
    assert [report.phase for report in said] == [Phase.DONE]
    assert group.readers[1].done
    assert group.workers[1][0].health().silent == 0


@pytest.mark.rule("B3")
def test_time_held_is_counted_by_reason():
    """From turn to turn, so that nothing is counted twice."""
    limited = ReaderRules(limit=RateLimit(records_per_s=10))
    group = world([Reader(WEATHER, limited, batch=10)], [Reader(FLIGHTS, GATED)])
    held = dict.fromkeys(Hold, 0)
    for _ in range(1_000):
        group.pass_ms(10)
        for reader in group.readers:
            for hold, milliseconds in reader.turn.held_ms.items():
                held[hold] += milliseconds
    assert held[Hold.GATE] + held[Hold.COORDINATOR] == pytest.approx(10_000, abs=60)
    assert held[Hold.RATE] > 5_000
    assert held[Hold.DRIFT] == 0


@pytest.mark.rule("B3")
def test_the_gap_is_between_the_slowest_that_counts_and_the_fastest():
    """Unknown as long as one watermark is."""
    group = world()
    weather, flights = group.readers
    weather.batch = 0
    group.pass_ms(2_000)
    assert group.workers[0][0].health().gap_ms is None
    weather.watermark, flights.batch = 5 * SECOND, 0
    group.pass_ms(2_000)
    assert group.workers[0][0].health().gap_ms == (flights.watermark - 5 * SECOND) // 1_000


@pytest.mark.rule("S4")
def test_what_a_member_has_is_not_taken_by_who_comes():
    """A newcomer's claim takes nothing from those who have; they give when they report. Else all would stand still at first."""
    has = Share().published(1, ALL_OF_IT).came_back(1, ALL_OF_IT, Claims())
    again = has.published(2, ALL_OF_IT).came_back(2, ALL_OF_IT, Claims(total=ALL_OF_IT // 2))
    assert again.usable == ALL_OF_IT
    assert Share().published(1, ALL_OF_IT).came_back(1, ALL_OF_IT, Claims(total=2 * ALL_OF_IT)).usable == 0


def test_readers_of_a_process_share_a_synchronizer_and_the_last_one_closes_it():
    """One consumer a worker, however many readers; a forked child makes its own."""
    group = world().group
    one, other = synchronizer.acquire(group), synchronizer.acquire(replace(group))
    assert one is other
    connection: Any = one._coordinator
    synchronizer.release(group)
    assert not connection.closed
    child = os.fork()
    if child == 0:
        os._exit(synchronizer._living != {})
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    synchronizer.release(group)
    assert connection.closed
    assert synchronizer.acquire(group) is not one
    synchronizer.release(group)


def test_who_is_held_for_long_says_by_whom(caplog):
    """Topic, partition, offset, what it waits for, and where that one is."""
    caplog.set_level(logging.WARNING, "beam_unified.sync")
    group = world([Reader(WEATHER, batch=0, watermark=SECOND)], [Reader(FLIGHTS, GATED)])
    group.pass_ms(90_000, every_ms=100)
    (record,) = caplog.records
    assert record.getMessage() == (
        "sync group 'group': flights[0] at offset 0 has been held by gate for a minute; it waits for topic 'weather' to reach "
        "1970-01-01T00:16:40.000Z: weather[0], archive, at 1970-01-01T00:00:01.000Z, offset 0"
    )
