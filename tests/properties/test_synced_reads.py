"""Drift, gates and order of the readers of one group, whatever the logs, the order of the calls and the crashes."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_unified import Stop, SyncGroup, TopicPartition
from beam_unified.testing import InMemoryLog, ManualClock
from tests.synced_reads import SECOND, Readers

DRIFT_S = 10


@st.composite
def logs(draw):
    """Two topics of one or two partitions, with up to 60 records of up to 200 s each; a part of them archived."""
    found: dict[Any, Any] = {}
    for topic in ("pins", "views"):
        log = InMemoryLog(topic, partitions=draw(st.integers(1, 2)))
        for partition in range(len(log.kafka.partitions(topic))):
            steps = draw(st.lists(st.integers(0, 5_000), max_size=60))
            at = 0
            for step in steps:
                at += step
                log.append(partition, b"", timestamp=at)
            if steps and draw(st.booleans()):
                log.flush(partition, 0, draw(st.integers(1, len(steps))))
        found[topic] = log
    return found


def everything(found):
    """What must have come out in the end, a partition each."""
    return {
        TopicPartition(topic, partition): [record.timestamp * 1_000 for record in log.records(partition)]
        for topic, log in found.items()
        for partition in log.kafka.partitions(topic)
        if log.records(partition)
    }


def came_out(readers):
    """What did."""
    found: dict[Any, Any] = {}
    for seen in readers.seen:
        found.setdefault(seen.tp, []).extend(seen.times)
    return found


def level(readers, tp):
    """What the reader's own watermark truly is; one that is done is past every instant."""
    if tp not in readers.residuals and tp not in readers.running:
        return math.inf
    own = readers.own[tp]
    return -math.inf if own is None else own


def play(readers, data, check):
    """Calls readers in any order, with crashes, then fairly until all are done. `check(seen)` after every batch."""
    readers.running = set()
    fresh = True
    told = set[TopicPartition]()
    for _ in range(data.draw(st.integers(0, 60))):
        if not readers.left:
            break
        action = data.draw(st.sampled_from(["step"] * 8 + ["checkpoint", "crash"]))
        if action == "checkpoint":
            readers.checkpoint()
        elif action == "crash":
            readers.crash()
            told, fresh = set(), False
        else:
            _step(readers, data.draw(st.sampled_from(readers.left)), check, told, fresh=fresh)
            readers.clock.advance(data.draw(st.integers(0, 300)))
    for _ in range(600):
        for tp in readers.left:
            _step(readers, tp, check, told, fresh=fresh)
        readers.clock.advance(100)
        if not readers.left:
            return
    raise AssertionError(f"S2: {readers.left} were never done")


def _step(readers, tp, check, told, *, fresh):
    told.add(tp)
    readers.running = {tp}
    for seen in readers.step(tp):
        if fresh or told >= set(readers.own):  # after a crash the group knows where all are once each has said it
            check(seen)
    readers.running = set()


@pytest.mark.rule("S2", "R1")
@settings(deadline=None, max_examples=60)
@given(found=logs(), data=st.data())
def test_nobody_gets_further_ahead_than_the_drift_and_one_batch(found, data):
    """S2: before its last batch, a reader was no further than `max_drift` ahead of the slowest; and all get to the end."""
    clock = ManualClock(1_000_000)
    group = SyncGroup("group", list(found), max_drift=f"{DRIFT_S}s", clock=clock)
    with Readers(found, clock, group, {name: {"stop": Stop.now()} for name in found}) as readers:

        def check(seen):
            before = level(readers, seen.tp)
            slowest = min(level(readers, tp) for tp in readers.own)
            assert before <= slowest + DRIFT_S * SECOND

        play(readers, data, check)
        assert came_out(readers) == everything(found)


@pytest.mark.rule("S5", "T1")
@settings(deadline=None, max_examples=40)
@given(found=logs(), data=st.data())
def test_the_reported_watermark_is_the_synced_one(found, data):
    """S5: never above the slowest plus the drift, though a batch has gone beyond; never back; in the end, its own."""
    clock = ManualClock(1_000_000)
    group = SyncGroup("group", list(found), max_drift=f"{DRIFT_S}s", clock=clock)
    with Readers(found, clock, group, {name: {"stop": Stop.now()} for name in found}) as readers:
        readers.running = set()
        reported: dict[TopicPartition, int] = {}
        while readers.left:
            tp = data.draw(st.sampled_from(readers.left))
            slowest = min(level(readers, other) for other in readers.own)
            readers.run(tp)
            now = readers.reported[tp]
            if now is not None:
                assert now <= slowest + DRIFT_S * SECOND
                assert now >= reported.get(tp, now)
                reported[tp] = now
            clock.advance(100)


@pytest.mark.rule("S3", "R1")
@pytest.mark.parametrize("mode", ["closed", "not_past"])
@settings(deadline=None, max_examples=60)
@given(found=logs(), data=st.data(), until_s=st.integers(0, 200), drift=st.booleans())
def test_a_gate_opens_when_all_of_the_other_topic_has_come_so_far(mode, found, data, until_s, drift):
    """S3: no view (none at or past the instant) before every pin partition is there; then all of them. With drift, too."""
    clock = ManualClock(1_000_000)
    group = SyncGroup("group", list(found), max_drift=f"{DRIFT_S}s" if drift else None, clock=clock)
    gate = {"wait_for": {"pins": f"1970-01-01T00:{until_s // 60:02}:{until_s % 60:02}Z"}, "wait_mode": mode}
    with Readers(
        found,
        clock,
        group,
        {"pins": {"stop": Stop.now()}, "views": {"stop": Stop.now(), **gate}},
    ) as readers:
        until = until_s * SECOND

        def check(seen):
            if seen.tp.topic == "views" and (mode == "closed" or max(seen.times) >= until):
                assert min(level(readers, tp) for tp in readers.own if tp.topic == "pins") >= until

        play(readers, data, check)
        assert came_out(readers) == everything(found)
