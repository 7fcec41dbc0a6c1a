"""One limit over many workers, whatever the log does and whoever dies (S4)."""

from collections import deque
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_unified.offsets import TopicPartition
from beam_unified.sync.options import ReaderRules, SyncGroup
from beam_unified.sync.policy import Hold
from beam_unified.sync.rates import Claims, Share
from beam_unified.sync.reports import ALL_OF_IT, LimitChange, RateLimit
from tests.sync_world import Reader, World, most_in_window

LIMIT = 1_000


def world(workers, readers_each, limit, delays=(20,), **reader):
    count = workers * readers_each
    turns = iter(range(10**9))
    return World(
        lambda clock, log: SyncGroup("group", ["pins"], coordinator=log, clock=clock),
        [
            [
                Reader(
                    TopicPartition("pins", worker * readers_each + number),
                    ReaderRules(limit=limit),
                    partitions=count,
                    **reader,
                )
                for number in range(readers_each)
            ]
            for worker in range(workers)
        ],
        lambda: delays[next(turns) % len(delays)],
    )


def records(of):
    return [(at, count) for at, _, count in of.reads]


EVENTS = st.sampled_from(["run", "run", "run", "kill 0", "kill 1", "hang 0", "lose", "find"])


@pytest.mark.rule("S4")
@given(st.integers(1, 4), st.lists(st.integers(1, 3_000), min_size=1, max_size=7), st.lists(EVENTS, max_size=12))
def test_the_sum_over_all_workers_is_never_above_the_limit(readers_each, delays, events):
    """1.1 x the limit over any ten seconds.

    Workers are killed and come back with empty buckets, or hang; the log is slow, or lost.
    """
    group = world(2, readers_each, RateLimit(records_per_s=LIMIT), delays)
    for event in events:
        group.log.reachable = (group.log.reachable and event != "lose") or event == "find"
        if event.startswith("kill"):
            group.kill(int(event[-1]))
        group.pass_ms(2_000, every_ms=50, only=[1] if event == "hang 0" else None)
        used = sum(seat.share.usable for sync, _ in group.workers for seat in sync._seats.values())
        assert used <= ALL_OF_IT
    assert most_in_window(records(group), 10_000) <= 1.1 * 10 * LIMIT


@pytest.mark.rule("S4")
@pytest.mark.parametrize(("workers", "readers_each"), [(1, 1), (4, 2), (3, 11)])
@pytest.mark.parametrize("delays", [(1,), (30,), (5, 50, 400)])
def test_the_limit_is_used(workers, readers_each, delays):
    """Not below 0.9 x over any ten seconds once shares are given out, and again two intervals after a kill."""
    group = world(workers, readers_each, RateLimit(records_per_s=LIMIT), delays)
    group.pass_ms(3_000)
    group.reads.clear()
    group.pass_ms(30_000)
    assert least_in_window(records(group), 10_000, group.clock) >= 0.9 * 10 * LIMIT
    group.kill(0)
    group.pass_ms(3_000)
    group.reads.clear()
    group.pass_ms(10_000)
    assert sum(count for _, count in records(group)) >= 0.9 * 10 * LIMIT


@pytest.mark.rule("S4")
@pytest.mark.parametrize("size_bytes", [10, 1_000, 80_000])
def test_a_limit_of_bytes_holds_for_small_and_large_records(size_bytes):
    """Also for records larger than what half a second of a share allows: their debt is waited for."""
    group = world(2, 2, RateLimit(bytes_per_s=100_000), size_bytes=size_bytes)
    group.pass_ms(3_000)
    group.reads.clear()
    group.pass_ms(60_000)
    sizes = [(at, count * size_bytes) for at, count in records(group)]
    assert 0.85 * 6_000_000 <= sum(size for _, size in sizes) <= 1.1 * 6_000_000
    assert most_in_window(sizes, 10_000) <= 1.1 * 1_000_000 + 4 * size_bytes * (size_bytes > 12_500)


@pytest.mark.rule("S4")
def test_what_finished_readers_leave_goes_to_the_others():
    """Re-shared as readers finish."""
    group = world(2, 2, RateLimit(records_per_s=LIMIT))
    for reader in group.readers[1:]:
        reader.end = 1_000
    group.pass_ms(8_000)
    assert [reader.done for reader in group.readers] == [False, True, True, True]
    group.reads.clear()
    group.pass_ms(10_000)
    assert sum(count for _, count in records(group)) >= 0.99 * 10 * LIMIT


@pytest.mark.rule("S4")
def test_what_a_slow_reader_does_not_use_goes_to_the_others():
    """Equal shares would leave three quarters unused where one partition has a backlog and three have a trickle."""
    group = world(2, 2, RateLimit(records_per_s=LIMIT))
    for reader in group.readers[1:]:
        reader.batch = 0
    group.pass_ms(4_000)
    group.reads.clear()
    group.pass_ms(10_000)
    assert sum(count for _, count in records(group)) >= 0.9 * 10 * LIMIT
    group.readers[1].batch = 100
    group.pass_ms(4_000)
    group.reads.clear()
    group.pass_ms(10_000)
    for reader in group.readers[:2]:
        assert sum(count for _, who, count in group.reads if who is reader) >= 0.4 * 10 * LIMIT


@pytest.mark.rule("S4")
@pytest.mark.parametrize("factor", [0.1, 3])
def test_a_changed_limit_is_obeyed_within_two_report_intervals(factor):
    """On every worker, also on one that comes back later."""
    group = world(3, 2, RateLimit(records_per_s=LIMIT))
    group.pass_ms(5_000)
    group.log.send(LimitChange(topic="pins", limit=RateLimit(records_per_s=LIMIT * factor)))
    group.pass_ms(2_000)
    for _ in range(2):
        group.reads.clear()
        group.pass_ms(10_000)
        assert sum(count for _, count in records(group)) == pytest.approx(10 * LIMIT * factor, rel=0.05)
        group.kill(1)
        group.pass_ms(3_000)


def least_in_window(reads, window_ms, clock):
    """The smallest sum in windows that begin at each read and end before now."""
    return min(
        sum(count for at, count in reads if start <= at < start + window_ms)
        for start, _ in reads[::50]
        if start + window_ms <= clock.now_ms()
    )


STEPS = st.lists(
    st.tuples(
        st.sampled_from([("say",), ("arrive",), ("read",), ("say", "arrive"), ("say", "arrive", "read")]),
        st.integers(0, 1),
        st.one_of(st.sampled_from([0, ALL_OF_IT // 2, ALL_OF_IT]), st.integers(0, ALL_OF_IT)),
    ),
    max_size=60,
)


@pytest.mark.rule("S4")
@settings(max_examples=500)
@given(STEPS)
def test_whatever_is_claimed_what_is_usable_is_never_more_than_all(steps):
    """Any claims, in any order, however long each takes to get into the log and back: also while one is being lowered."""
    shares, said, on_the_way = [Share()] * 2, [0] * 2, [deque[tuple[int, int]]() for _ in range(2)]
    in_log, unread = [0] * 2, [deque[tuple[int, int, Claims]]() for _ in range(2)]
    for parts, who, wanted in steps:
        for part in parts:
            if part == "say":
                said[who] += 1
                shares[who] = shares[who].published(said[who], wanted)
                on_the_way[who].append((said[who], wanted))
            elif part == "arrive" and on_the_way[who]:
                sequence, claim = on_the_way[who].popleft()
                in_log[who] = claim
                unread[who].append((sequence, claim, Claims(total=sum(in_log) - claim)))
            elif part == "read" and unread[who]:
                shares[who] = shares[who].came_back(*unread[who].popleft())
            assert sum(share.usable for share in shares) <= ALL_OF_IT


@pytest.mark.rule("S4")
def test_a_worker_that_is_cut_off_stops_when_it_reads_who_took_over():
    """Two processes read one partition for a while, as after a lost heartbeat: the share belongs to who spoke last."""
    group = world(1, 1, RateLimit(records_per_s=LIMIT))
    group.pass_ms(3_000)
    (forgotten, (reader,)), successor = group.workers[0], replace(group.readers[0])
    group.kill(0)
    group.workers[0] = group.workers[0][0], [successor]
    group.pass_ms(3_000)
    assert reader.turn.records > 0
    reader.take_turn(forgotten)
    assert reader.turn.hold is Hold.RATE
    assert reader.turn.records == 0
