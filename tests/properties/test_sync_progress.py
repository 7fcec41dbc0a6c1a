"""Gates and drift together, over any group: nobody waits for ever, nobody passes what it must wait for (S2, S3)."""

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.offsets import TopicPartition
from beam_unified.sync.options import Gate, GateMode, ReaderRules, SyncGroup
from beam_unified.sync.reports import Phase
from tests.sync_world import Reader, World

SECOND = 1_000_000
TOPICS = "abcd"


@dataclass(frozen=True)
class Plan:
    """A group: per topic its partitions as (first event time, seconds between records, records), and its rules."""

    topics: tuple[tuple[tuple[tuple[int, int, int], ...], ReaderRules], ...]
    drift_s: int | None
    workers: int
    delays: tuple[int, ...]

    def world(self):
        readers: list[list[Reader]] = [[] for _ in range(self.workers)]
        for name, (partitions, rules) in zip(TOPICS, self.topics, strict=False):
            for number, (first, step, count) in enumerate(partitions):
                readers[(ord(name) + number) % self.workers].append(
                    Reader(
                        TopicPartition(name, number),
                        rules,
                        partitions=len(partitions),
                        first=first * SECOND,
                        step=step * SECOND,
                        end=count,
                        batch=7,
                    )
                )
        turns = iter(range(10**9))
        drift = None if self.drift_s is None else f"{self.drift_s}s"
        names = list(TOPICS[: len(self.topics)])
        return World(
            lambda clock, log: SyncGroup("group", names, max_drift=drift, coordinator=log, clock=clock),
            readers,
            lambda: self.delays[next(turns) % len(self.delays)],
        )


@st.composite
def plans(draw):
    """Topics wait for earlier ones only, so that there is no circle; instants before, among and after their records."""
    topics = []
    for index in range(draw(st.integers(1, 4))):
        partitions = draw(
            st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9), st.integers(0, 40)), min_size=1, max_size=3)
        )
        waits_for = draw(st.sets(st.sampled_from(TOPICS[:index]), max_size=2)) if index else set()
        gates = tuple(Gate(topic=name, until=draw(st.integers(0, 400)) * SECOND) for name in sorted(waits_for))
        mode = draw(st.sampled_from(GateMode))
        topics.append((tuple(partitions), ReaderRules(gates=gates, mode=mode)))
    return Plan(
        tuple(topics),
        draw(st.none() | st.integers(1, 100)),
        draw(st.integers(1, 3)),
        tuple(draw(st.lists(st.integers(1, 300), min_size=1, max_size=5))),
    )


@pytest.mark.rule("S2")
@given(plans())
def test_in_no_group_do_gates_and_drift_hold_everyone(plan):
    """As long as anyone is not done, somebody reads: all come to their end, whatever the group, the log and the gates.

    A gate on an instant that the awaited topic never reaches opens when that topic is done.
    """
    group = plan.world()
    before = None
    while not all(reader.done for reader in group.readers):
        group.pass_ms(5_000, every_ms=100)
        after = [reader.position for reader in group.readers]
        assert after != before, [(str(reader.member), reader.position, reader.turn) for reader in group.readers]
        before = after


@pytest.mark.rule("S2")
@given(plans(), st.integers(0, 30))
def test_of_readers_that_know_everything_one_is_free(plan, seconds):
    """In whatever state: when all that was said has arrived, not every reader that is not done is held by us."""
    group = plan.world()
    group.pass_ms(seconds * 1_000, every_ms=100)
    for reader in group.readers:
        reader.batch = 0  # they ask, and move no more
    group.pass_ms(5_000, every_ms=100)
    holds = [reader.turn.hold for reader in group.readers if not reader.done]
    assert not holds or None in holds


@pytest.mark.rule("S3")
@given(plans())
def test_nobody_passes_a_gate_before_all_partitions_of_the_other_topic(plan):
    """A closed reader reads nothing; one that may not pass the instant emits nothing at or after it."""
    group = plan.world()
    for _ in range(100):
        group.clock.advance(100)
        for synchronizer, own in group.workers:
            for reader in own:
                others = now(group)
                if reader.take_turn(synchronizer):
                    closed = [g.until for g in reader.rules.gates if min(levels_of(others, g.topic)) < g.until]
                    assert not closed or reader.rules.mode is GateMode.NOT_PAST
                    assert all(reader.watermark < until for until in closed)


@pytest.mark.rule("S2")
@given(plans(), st.lists(st.integers(0, 2), max_size=4))
def test_nobody_gets_further_ahead_than_the_drift_and_one_batch(plan, kills):
    """Who reads was, before that batch, at most the drift ahead of the slowest reader that no gate holds, as that one really is.

    Through workers that die and come back.
    """
    group = plan.world()
    for killed in [None, *kills]:
        if killed is not None:
            group.kill(killed % plan.workers)
        for _ in range(20):
            group.clock.advance(100)
            for synchronizer, own in group.workers:
                for reader in own:
                    others = now(group)
                    before = others.pop(reader.member)
                    if reader.take_turn(synchronizer) and plan.drift_s is not None:
                        counted = [at for member, at in others.items() if not gated(synchronizer, member)]
                        assert before <= min(counted, default=before) + plan.drift_s * SECOND


def level(reader):
    """Where a reader really is."""
    if reader.done:
        return math.inf
    return -math.inf if reader.watermark is None else reader.watermark


def now(group):
    return {reader.member: level(reader) for reader in group.readers}


def levels_of(levels, topic):
    return [value for member, value in levels.items() if member.topic == topic]


def gated(synchronizer, member):
    """Whether a member counts as held by a gate, by its newest report."""
    report = synchronizer._view.report_of(member)
    return report is not None and report.phase is Phase.HELD_BY_GATE
