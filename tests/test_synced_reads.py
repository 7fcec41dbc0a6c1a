"""Sources in a sync group: one worker played by hand, and whole pipelines on FnApiRunner over logs in memory."""

import re
from datetime import timedelta
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_unified import (
    LAUNCH,
    ConfigError,
    KafkaTimestamp,
    RateLimit,
    ReadUnified,
    Start,
    Stop,
    SyncGroup,
    TopicPartition,
)
from beam_unified.harness import exhaust
from beam_unified.sync.coordinator import InProcess
from beam_unified.sync.reports import LimitChange, Logged, Phase, Report
from beam_unified.testing import InMemoryLog, InMemoryTopics, ManualClock
from tests.synced_reads import Readers

SEEN: list[Any] = []
PINS, VIEWS = TopicPartition("pins", 0), TopicPartition("views", 0)


@pytest.fixture(autouse=True)
def _nothing_seen():
    SEEN.clear()


@pytest.fixture
def clock():
    return ManualClock(100_000_000)


def note(progress):
    SEEN.append(progress)


def filled(topic, records=20, *, partitions=1, step_ms=1_000):
    """Records a second apart, in each partition."""
    log = InMemoryLog(topic, partitions=partitions)
    for partition in range(partitions):
        for at in range(records):
            log.append(partition, b"%d" % at, timestamp=at * step_ms)
    return log


def two(clock, pins, views, *, pins_options=None, views_options=None, **group):
    logs = {"pins": pins, "views": views}
    stop = {"stop": Stop.now()}
    return Readers(
        logs, clock, SyncGroup("group", list(logs), clock=clock, **group),
        {"pins": {**stop, **(pins_options or {})}, "views": {**stop, **(views_options or {})}}, batch=100,
    )  # fmt: skip


GATE = {"wait_for": {"pins": "1970-01-01T00:00:10Z"}}


# -- one worker by hand


@pytest.mark.rule("S1", "S3")
def test_a_gate_waits_for_a_partition_whose_reader_has_not_started(clock):
    """The element says how many partitions there are: slow subtasks are silent, and must not open a gate."""
    with two(clock, filled("pins", partitions=2), filled("views"), views_options=GATE) as readers:
        for _ in range(2):
            readers.run(PINS)
        assert PINS not in readers.residuals
        assert readers.run(VIEWS) == []
        readers.run(TopicPartition("pins", 1))
        assert len(readers.run(VIEWS)) == 1


@pytest.mark.rule("S1")
def test_a_reader_with_nothing_to_read_is_done_though_it_is_held(clock):
    """An empty partition behind a closed gate: it ends in its first call, and holds nobody's drift."""
    with two(clock, filled("pins"), InMemoryLog("views"), views_options=GATE, max_drift="1s") as readers:
        assert readers.run(VIEWS) == []
        assert VIEWS not in readers.residuals
        readers.run(PINS)
        readers.run(PINS)
        assert PINS not in readers.residuals


@pytest.mark.rule("S3", "R6")
def test_a_reader_does_not_end_at_a_gate_that_comes_before_its_stop(clock):
    """`not_past` cuts a batch in which the stop instant was met, too: what lies between is read when the gate opens."""
    views = {"wait_mode": "not_past", **GATE, "stop": Stop.at("1970-01-01T00:00:15Z")}
    with two(ManualClock(14_000), filled("pins"), filled("views"), views_options=views) as readers:
        assert [len(seen.times) for _ in range(3) for seen in readers.run(VIEWS)] == [10]
        while readers.left:
            for tp in readers.left:
                readers.run(tp)
        assert sum(len(seen.times) for seen in readers.seen if seen.tp == VIEWS) == 15


@pytest.mark.rule("B3")
def test_a_reader_that_is_held_reports_no_backlog(clock):
    """Or the runner would add workers for it."""
    with two(clock, filled("pins"), filled("views"), views_options=GATE) as readers:
        assert readers.backlog(VIEWS) == 20
        readers.run(VIEWS)
        assert readers.backlog(VIEWS) == 0
        readers.run(PINS)
        readers.run(VIEWS)
        assert VIEWS in readers.residuals  # its closing step
        assert readers.backlog(PINS) == 0


@pytest.mark.rule("T2", "S3")
def test_the_idle_clock_stands_still_while_a_gate_is_closed(clock):
    """FLIP-471: an hour behind a gate is not an hour without news, so the watermark does not jump to the clock."""
    forever = {"stop": None, "idle_timeout": timedelta(seconds=10), "discovery_interval": None}
    with two(
        clock,
        filled("pins"),
        filled("views"),
        pins_options={"stop": None},
        views_options={**forever, **GATE, "on_idle": "advance"},
    ) as readers:
        start = readers.residuals[PINS]
        readers.run(PINS)
        for _ in range(2):
            readers.run(VIEWS)  # the second finds the end: idle from here on
        clock.advance(9_000)
        readers.residuals[PINS] = start  # the reader of pins was restored
        pins = readers.dofns["pins"]
        pins.options.sync.group.coordinator.connect("group", readers.group.run_id).publish(
            _report(readers, watermark=0)
        )
        readers.run(VIEWS)
        for _ in range(36):
            clock.advance(100_000)
            assert readers.run(VIEWS) == []
        readers.run(PINS)  # the gate opens again
        clock.advance(500)
        readers.run(VIEWS)
        readers.run(VIEWS)
        assert readers.reported[VIEWS] == 19_000_000
        clock.advance(1_000)
        readers.run(VIEWS)
        readers.run(VIEWS)
        assert readers.reported[VIEWS] == clock.now_ms() * 1_000


def _report(readers, watermark):
    """What another worker says of pins."""
    return Report(
        member=PINS, watermark=watermark, position=0, phase=Phase.ARCHIVE, partitions=1, author="other", sequence=1
    )


@pytest.mark.rule("S4")
@pytest.mark.parametrize("partitions", [1, 3])
def test_the_rate_is_kept_over_all_partitions(clock, partitions):
    """Over any ten seconds at most 1.1 times the limit; and 0.9 times it on the whole."""
    limit = {"rate_limit": RateLimit(records_per_s=100)}
    with two(
        clock, filled("pins", 6_000 // partitions, partitions=partitions), filled("views", 1), pins_options=limit
    ) as readers:
        began = clock.now_ms()
        while readers.left:
            for tp in readers.left:
                readers.run(tp)
            clock.advance(50)
        read = [(seen.at_ms, len(seen.times)) for seen in readers.seen if seen.tp.topic == "pins"]
        assert sum(records for _, records in read) == 6_000
        for since, _ in read:
            assert sum(records for at, records in read if since <= at < since + 10_000) <= 1_100
        assert clock.now_ms() - began <= 60_000 / 0.9


@pytest.mark.rule("S4")
@pytest.mark.parametrize("before", [10, None])
def test_the_rate_is_changed_while_the_job_runs(clock, before):
    """Every reader obeys within two report intervals; what it read while there was no limit is no debt."""
    limit = {} if before is None else {"rate_limit": RateLimit(records_per_s=before)}
    with two(clock, filled("pins", 50_000), filled("views", 1), pins_options=limit) as readers:
        log = InProcess(clock).connect("group", readers.group.run_id)
        for second in range(20):
            if second == 10:
                log.publish(LimitChange(topic="pins", limit=RateLimit(records_per_s=100)))
            for _ in range(20):
                readers.run(PINS)
                clock.advance(50)
        counts = [0, 0]
        for seen in readers.seen:
            counts[seen.at_ms >= 100_012_000] += len(seen.times)
        assert counts[0] >= 40_000 if before is None else counts[0] <= 10 * before * 1.1 + 200
        assert 720 <= counts[1] <= 880
        log.close()

    # -- the harness


class _Slow:
    """A coordinator by which another topic gets on a second each time somebody looks, and the clock ten milliseconds.

    Implements both protocols.
    """

    def __init__(self, clock):
        self.clock = clock

    def connect(self, group, run_id):
        self.at, self.sequence = 0, 0
        return self

    def publish(self, entry):
        self.said = entry

    def drain(self):
        self.clock.advance(10)
        self.at, self.sequence = self.at + 1_000_000, self.sequence + 1
        other = Report(
            member=VIEWS,
            watermark=self.at,
            position=0,
            phase=Phase.KAFKA,
            partitions=1,
            author="other",
            sequence=self.sequence,
        )
        return [Logged(self.said, 0), Logged(other, 0)] if hasattr(self, "said") else [Logged(other, 0)]

    def caught_up(self):
        return True

    def close(self):
        pass


@pytest.mark.rule("S2", "S3", "T4", "R1")
@pytest.mark.parametrize("mode", ["drift", "closed", "not_past", "rate"])
def test_a_synced_read_survives_a_split_at_every_event(clock, mode):
    """However the reader is held, a checkpoint at any point loses nothing, doubles nothing, and makes nothing late."""
    log = filled("pins", 8)
    log.flush(0, 0, 4)
    log.expire(0, 3)
    group = SyncGroup("group", ["pins", "views"], max_drift="1s", clock=clock, coordinator=_Slow(clock))
    options = {"drift": {}, "rate": {"rate_limit": RateLimit(records_per_s=1_000)}}.get(
        mode, {"wait_for": {"views": "1970-01-01T00:00:03Z"}, "wait_mode": mode}
    )
    read = ReadUnified(
        "pins", log.kafka, log.archive, timestamp_fn=KafkaTimestamp(), stop=Stop.offsets({0: 8}), clock=clock, sync=group,
        **options,
    )  # fmt: skip
    report = exhaust(read, ("pins", 0), fractions=(0.0, 0.5), reset=lambda: clock.advance(1_000))
    assert len(report.emitted) == 8
    assert report.splits > 20


# -- pipelines


def synced(pipeline, logs, group, **options):
    """Counts of both topics."""
    topics = InMemoryTopics(*logs.values())
    for name in logs:
        _ = (
            pipeline
            | name
            >> ReadUnified(
                name, topics.kafka, topics.archive, timestamp_fn=KafkaTimestamp(), stop=Stop.now(), sync=group,
                on_progress=note, **options.get(name, {}),
            )
        )  # fmt: skip


@pytest.mark.rule("S3", "S6", "B3")
def test_a_gate_between_two_sources_of_a_bounded_pipeline():
    """No view is read before all pins are there, on a runner that reads both stages in turn; seen in metrics, too."""
    logs = {"views": filled("views", 3_000), "pins": filled("pins", 3_000, partitions=2)}
    group = SyncGroup("group", list(logs))
    pipeline = beam.Pipeline(FnApiRunner())
    synced(pipeline, logs, group, views={"wait_for": {"pins": "1970-01-01T00:49:00Z"}})
    result = pipeline.run()
    result.wait_until_finish()
    read = [step.topic for step in SEEN if step.records]
    assert read.count("views") == len(read) - read.index("views")
    assert sum(step.records for step in SEEN) == 9_000
    assert {(step.topic, step.held_by, step.store) for step in SEEN if step.held_by} == {("views", "gate", None)}
    metrics = result.metrics()
    (held,) = metrics.query(MetricsFilter().with_name("held_by_gate_ms"))["counters"]
    assert held.committed > 0
    gauges = {gauge.key.metric.name for gauge in metrics.query()["gauges"]}
    assert {"sync_silent_members", "sync_coordinator_lost_ms"} <= gauges


@pytest.mark.rule("S2", "S6")
def test_drift_between_two_sources_of_a_bounded_pipeline():
    """The faster one is held until the slower one has caught up."""
    logs = {"views": filled("views", 9_000, step_ms=100), "pins": filled("pins", 9_000, step_ms=10_000)}
    with beam.Pipeline(FnApiRunner()) as pipeline:
        synced(pipeline, logs, SyncGroup("group", list(logs), max_drift="10s"))
    own = {"views": 0, "pins": 0}
    for step in SEEN:
        if step.records and step.topic == "pins" and own["views"] < 8_999 * 100:
            assert own["pins"] <= own["views"] + 10_000
        if step.records:
            own[step.topic] = (step.next_offset - 1) * {"views": 100, "pins": 10_000}[step.topic]
    assert own == {"views": 899_900, "pins": 89_990_000}
    assert {step.held_by for step in SEEN if step.topic == "pins"} >= {"drift"}


@pytest.mark.rule("S3")
def test_launch_is_the_moment_when_the_group_was_made():
    """`LAUNCH` is the same for all topics: views wait for pins that end before it only until those are done."""
    logs = {"views": filled("views", 10), "pins": filled("pins", 10)}
    with beam.Pipeline(FnApiRunner()) as pipeline:
        synced(pipeline, logs, SyncGroup("group", list(logs)), views={"wait_for": {"pins": LAUNCH}})
    assert [step.topic for step in SEEN if step.records] == ["pins", "views"]


# -- what is refused when the pipeline is built


def read(topic="pins", sync=None, **options):
    log = InMemoryLog(topic if isinstance(topic, str) else "pins")
    return ReadUnified(topic, log.kafka, log.archive, timestamp_fn=KafkaTimestamp(), sync=sync, **options)


def group(*topics, name="group"):
    return SyncGroup(name, topics or ("pins", "views"))


@pytest.mark.rule("B2", "R7")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"wait_for": {"views": LAUNCH}}, "wait_for is kept by a sync group"),
        ({"rate_limit": RateLimit(records_per_s=1)}, "rate_limit is kept by a sync group"),
        ({"sync": "group"}, "sync must be a SyncGroup"),
        ({"sync": group(), "topic": re.compile("pins")}, "sync needs topics by name"),
        ({"sync": group(), "ordered": False}, "sync and ordered=False exclude each other"),
        ({"sync": group("views")}, "topic 'pins' is not in sync group"),
        ({"sync": group(), "wait_for": {"clicks": LAUNCH}}, "'clicks', which is not in sync group"),
        ({"sync": group(), "wait_for": {"pins": LAUNCH}}, "circle"),
        ({"sync": group(), "wait_for": {"views": LAUNCH}, "wait_mode": "ajar"}, "wait_for mode"),
        ({"sync": group(), "rate_limit": 5}, "rate_limit must be a RateLimit"),
    ],
)
def test_options_that_cannot_work_are_refused(options, said):
    """When the transform is made, in words that say what to do."""
    with pytest.raises(ConfigError, match=re.escape(said)):
        read(**options)


@pytest.mark.rule("S3")
def test_a_wait_cycle_over_two_sources_is_refused():
    """Each alone is fine; nothing would ever be read."""
    sync, pipeline = group(), beam.Pipeline(FnApiRunner())
    _ = pipeline | "pins" >> read("pins", sync, wait_for={"views": LAUNCH})
    with pytest.raises(ConfigError, match="circle"):
        _ = pipeline | "views" >> read("views", sync, wait_for={"pins": LAUNCH})


@pytest.mark.rule("S1")
def test_a_topic_is_read_once_in_a_group():
    """A member is a partition: two readers of one would take each other's reports for their own."""
    sync, pipeline = group(), beam.Pipeline(FnApiRunner())
    _ = pipeline | "one" >> read("pins", sync)
    with pytest.raises(ConfigError, match="read twice"):
        _ = pipeline | "other" >> read("pins", sync)


@pytest.mark.rule("S6")
def test_a_group_belongs_to_one_pipeline():
    """Runs never see each other; and two groups of one name in a pipeline are a mistake."""
    sync, pipeline, another = group(), beam.Pipeline(FnApiRunner()), beam.Pipeline(FnApiRunner())
    _ = pipeline | "pins" >> read("pins", sync)
    with pytest.raises(ConfigError, match="part of another pipeline"):
        _ = another | "pins" >> read("views", sync)
    with pytest.raises(ConfigError, match="two sync groups 'group'"):
        _ = pipeline | "views" >> read("views", group())
    _ = pipeline | "another group" >> read("views", group(name="another"))


@pytest.mark.rule("R6", "S1")
def test_a_start_at_the_end_is_a_member_too(clock):
    """Rule S1: whoever begins where nothing is left yet holds the others until it knows its watermark."""
    with two(
        clock, filled("pins"), filled("views"), views_options={"start": Start.latest()}, max_drift="1s"
    ) as readers:
        readers.run(VIEWS)
        assert VIEWS not in readers.residuals
