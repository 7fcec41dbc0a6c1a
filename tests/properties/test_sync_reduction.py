"""The reduction over any log of reports, against one that looks at everything every time (S1)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.offsets import TopicPartition
from beam_unified.sync.reduction import GroupView, Smallest
from beam_unified.sync.reports import LimitChange, Logged, Phase, RateLimit, Report

TOPICS = ("weather", "flights")
STALE_MS = 100

MEMBERS = st.builds(TopicPartition, st.sampled_from([*TOPICS, "foreign"]), st.integers(0, 3))
REPORTS = st.builds(
    Report,
    member=MEMBERS,
    watermark=st.none() | st.integers(-50, 50),
    position=st.just(0),
    phase=st.sampled_from(Phase),
    partitions=st.integers(1, 4),
    claim=st.integers(0, 10),
    author=st.sampled_from("ab"),
    sequence=st.integers(1, 9),
)
CHANGES = st.builds(LimitChange, topic=st.sampled_from(TOPICS), limit=st.just(RateLimit(records_per_s=1)))
LOGS = st.lists(st.tuples(st.one_of(REPORTS, REPORTS, REPORTS, CHANGES), st.integers(0, 60)), max_size=40)


class Model:
    """The same, from the whole log at every question."""

    def __init__(self, log, ignore_silent):
        self.newest: dict[TopicPartition, tuple[Report, int]] = {}
        self.expected, now, first = dict.fromkeys(TOPICS, 0), 0, None
        for entry, later in log:
            now += later
            first = now if first is None else first
            if isinstance(entry, LimitChange) or entry.member.topic not in TOPICS:
                continue
            last = self.newest[entry.member][0] if entry.member in self.newest else None
            if last is not None and last.author == entry.author and last.sequence >= entry.sequence:
                continue
            self.newest[entry.member] = entry, now
            topic = entry.member.topic
            self.expected[topic] = max(self.expected[topic], entry.partitions, entry.member.partition + 1)
        self.long = first is not None and now - first > STALE_MS
        self.ignore = ignore_silent
        done = {member for member, (report, _) in self.newest.items() if report.phase is Phase.DONE}
        self.silent = {member for member, (_, at) in self.newest.items() if now - at > STALE_MS} - done

    def missing(self, topic):
        return self.expected[topic] == 0 or any(
            TopicPartition(topic, number) not in self.newest for number in range(self.expected[topic])
        )

    def topic_minimum(self, topic):
        levels = [report.level for member, (report, _) in self.newest.items() if member.topic == topic]
        return -math.inf if self.missing(topic) else min(levels)

    def minimum(self):
        if not (self.ignore and self.long) and any(self.missing(topic) for topic in TOPICS):
            return -math.inf
        ignored = self.silent if self.ignore else set()
        counted = [
            report.level
            for member, (report, _) in self.newest.items()
            if report.phase is not Phase.HELD_BY_GATE and member not in ignored
        ]
        return min(counted, default=math.inf)

    def maximum(self):
        return max((r.level for r, _ in self.newest.values() if r.phase is not Phase.DONE), default=-math.inf)


@pytest.mark.rule("S1")
@given(LOGS, st.booleans())
def test_every_prefix_of_a_log_reduces_to_what_looking_at_all_of_it_gives(log, ignore_silent):
    """Newest report wins even when it is lower; missing members hold; done ones do not; new ones hold again.

    Those that a gate holds, and ignored ones, are left out of the drift's minimum, never out of what gates ask.
    """
    view, now = GroupView(TOPICS, stale_after_ms=STALE_MS, ignore_silent=ignore_silent), 0
    for length, (entry, later) in enumerate(log, start=1):
        now += later
        view.observe(Logged(entry, now))
        model = Model(log[:length], ignore_silent)
        assert view.minimum() == model.minimum()
        assert view.maximum() == model.maximum()
        for topic in TOPICS:
            assert view.topic_minimum(topic) == model.topic_minimum(topic)
        assert {member for member in view.silent() if view.report_of(member)} == model.silent
        for member, (report, _) in model.newest.items():
            assert view.report_of(member) == report


@pytest.mark.rule("S4")
@given(LOGS, MEMBERS.filter(lambda member: member.topic in TOPICS), st.integers(1, 6))
def test_claims_of_others_are_the_sums_over_the_others(log, asked, partitions):
    """However reports replaced each other."""
    view, now = GroupView(TOPICS, stale_after_ms=STALE_MS, ignore_silent=False), 0
    for entry, later in log:
        now += later
        view.observe(Logged(entry, now))
    model = Model(log, ignore_silent=False)
    others = [report for member, (report, _) in model.newest.items() if member.topic == asked.topic and member != asked]
    hungry = [report for report in others if report.phase is Phase.HELD_BY_RATE]
    found = view.claims_of_others(asked, partitions)
    assert (found.total, found.hungry_total) == (sum(r.claim for r in others), sum(r.claim for r in hungry))
    assert (found.claiming, found.hungry) == (sum(r.claim > 0 for r in others), len(hungry))
    expected = max(model.expected[asked.topic], partitions)
    assert found.unheard == max(0, expected - len(others) - 1)


@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(-9, 9)), max_size=400))
def test_the_smallest_of_changing_values_is_the_smallest(changes):
    """Through changes up and down, removals, and the clearing of what is outdated."""
    values: dict[int, int] = {}
    smallest = Smallest()
    for key, value in changes:
        if value is None:
            values.pop(key, None)
            smallest.remove(key)
        else:
            values[key] = value
            smallest.put(key, value)
        assert smallest.smallest() == min(values.values(), default=math.inf)
