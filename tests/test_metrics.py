"""B3: the metrics, their page, and the pipelines that emit them, held to each other."""

import re
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics.execution import MetricsContainer
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.sdf_utils import (
    RestrictionTrackerView,
    ThreadsafeRestrictionTracker,
    ThreadsafeWatermarkEstimator,
)
from apache_beam.runners.worker import statesampler
from apache_beam.utils.counters import CounterFactory

from beam_unified import Json, KafkaTimestamp, RateLimit, ReadUnified, Start, Stop, SyncGroup, metrics
from beam_unified.source.pacing import CallBudget
from beam_unified.sync.policy import Hold
from beam_unified.testing import InMemoryLog, InMemoryTopics, ManualClock

pytestmark = pytest.mark.rule("B3")

PAGE = (Path(__file__).parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
NEEDS_A_BROKER = {"records_written", "bytes_written", "flushes_archived", "held_by_coordinator_ms"}
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([\w ]+) \| (\w+) \| .+ \|$", re.MULTILINE)


def emitted(pipeline):
    """(namespace, name) -> value, of a pipeline that is run here."""
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query()
    return {
        (one.key.metric.namespace, one.key.metric.name): (kind[:-1], one.committed)
        for kind in ("counters", "gauges", "distributions")
        for one in found[kind]
        if one.key.metric.namespace.startswith("beam_unified")
    }


def test_the_page_has_every_metric_and_no_other():
    """Name by name: type, unit and scope; and something to do about it."""
    described = {(name, kind, unit, scope) for name, kind, unit, scope in ROW.findall(PAGE)}
    assert described == {(one.name, one.kind, one.unit, one.scope) for one in metrics.ALL}


def test_names_can_be_told_from_topics():
    """`beam_unified_<topic>_<name>` reads in one way only: no name ends in another; no two are the same."""
    names = [one.name for one in metrics.ALL]
    assert len(set(names)) == len(names)
    assert not [(one, other) for one in names for other in names if one.endswith(f"_{other}")]


def test_all_metrics_are_in_the_list():
    """What the module defines is what `ALL` says."""
    named = [value for name, value in vars(metrics).items() if name.isupper()]
    grouped = [one for value in named if isinstance(value, dict) for one in value.values()]
    assert {one for one in (*named, *grouped) if isinstance(one, metrics.Metric)} == set(metrics.ALL)


def overlapping():
    """Offsets 0 to 11 archived in files that overlap by 2, one of them lost, 12 to 19 in Kafka; two records are bad, two late.

    Offsets 14 and 15 leave Kafka for the archive just before they are read, and the lost file is found again, too late.
    """
    log = InMemoryLog("pins.2")
    for offset in range(20):
        late = {4: 3_000, 15: 3_000}.get(offset, 0)
        log.append(0, b"{" if offset in {2, 14} else b"{}", timestamp=10_000 + offset * 1_000 - late, key=b"k")
    log.flush(0, 0, 6)
    log.flush(0, 4, 8)
    log.remove(0, log.flush(0, 8, 10))
    log.flush(0, 10, 12)
    log.expire(0, 12)
    log.when_asked(0, 14, log.flush, 0, 14, 16)
    log.when_asked(0, 14, log.expire, 0, 16)
    log.when_asked(0, 16, log.flush, 0, 8, 10)
    return log


@pytest.fixture(scope="module")
def reading():
    """What a pipeline over it emits."""
    log, pipeline = overlapping(), beam.Pipeline(runner=FnApiRunner())
    read = ReadUnified(
        log.topic,
        log.kafka,
        log.archive,
        timestamp_fn=KafkaTimestamp(),
        decoder=Json(),
        dead_letters=True,
        start=Start.offsets({0: 0}),
        stop=Stop.offsets({0: 20}),
        on_gap="skip",
        gap_timeout=timedelta(0),
    )
    read._options = replace(read._options, budget=CallBudget(batch_records=2))
    _ = pipeline | read
    return emitted(pipeline)


def test_what_a_reader_does_is_counted(reading):
    """Records and bytes by store, handoffs, corrupted, gaps, duplicates, how many are late and how late, and the lag at the end."""
    counters = {where: value for where, (kind, value) in reading.items() if kind == "counter"}
    assert counters == {
        ("beam_unified/pins.2", name): value
        for name, value in {
            "records_from_archive": 12,
            "records_from_kafka": 6,
            "bytes_from_archive": 10 * 3 + 2 * 2,
            "bytes_from_kafka": 6 * 3,
            "handoffs_to_kafka": 2,
            "handoffs_to_archive": 1,
            "corrupted_records": 2,
            "dead_letters": 3,
            "gaps": 1,
            "late_files": 1,
            "gap_offsets": 2,
            "duplicates_dropped_estimate": 2,
            "late_records": 2,
            "late_ms": 3_000,
        }.items()
    }
    assert reading["beam_unified/pins.2", "late_by_ms"][1].max == 2_000
    assert reading["beam_unified/pins.2/0", "lag_records_estimate"][1].value == 0
    assert reading["beam_unified/pins.2/0", "lag_ms_estimate"][1].value == 0


@contextmanager
def gauges():
    """The gauges that are set meanwhile."""
    found: dict[tuple[str, str], int] = {}
    container = MetricsContainer("read")
    sampler = statesampler.StateSampler("", CounterFactory())
    statesampler.set_current_tracker(sampler)
    sampler.start()
    try:
        with sampler.scoped_state("read", "process", metrics_container=container):
            yield found
    finally:
        sampler.stop()
        statesampler.set_current_tracker(None)
    for key, value in container.get_cumulative().gauges.items():
        found[key.metric.namespace, key.metric.name] = value.value


def one_call(read, records):
    """The first call of `process`, over so many records."""
    dofn = read.splittable_dofn()
    dofn.options = replace(dofn.options, budget=CallBudget(records=records, batch_records=records))
    dofn.setup()
    element = (read.splittable_dofn().options.topics.names[0], 0)
    restriction = dofn.initial_restriction(element)
    tracker = ThreadsafeRestrictionTracker(dofn.create_tracker(restriction))
    state = dofn.initial_estimator_state(element, restriction)
    estimator = ThreadsafeWatermarkEstimator(dofn.create_watermark_estimator(state))
    emitted = list(dofn.process(element, RestrictionTrackerView(tracker), estimator))
    dofn.teardown()
    return emitted


def test_the_lag_is_that_of_the_end_it_has_seen():
    """Behind by what the log holds, in offsets and in time by the clock; a piece of the archive tells none."""
    log, clock = InMemoryLog("pins"), ManualClock(100_000)
    for offset in range(30):
        log.append(0, b"x", timestamp=offset * 1_000)
    lags = []
    for records in (10, 30):
        read = ReadUnified("pins", log.kafka, None, timestamp_fn=KafkaTimestamp(), clock=clock, discovery_interval=None)
        with gauges() as found:
            one_call(read, records)
        lags.append({name: found["beam_unified/pins/0", name] for name in ("lag_records_estimate", "lag_ms_estimate")})
    assert lags == [
        {"lag_records_estimate": 20, "lag_ms_estimate": 100_000 - 9_000},
        {"lag_records_estimate": 0, "lag_ms_estimate": 0},
    ]


@pytest.fixture(scope="module")
def in_step():
    """What a pipeline of three topics emits: one waits for the slow one, one runs ahead of it; for longer than gauges rest."""
    logs = {name: InMemoryLog(name) for name in ("pins", "views", "clicks")}
    for log in logs.values():
        for offset in range(300):
            log.append(0, b"x", timestamp=offset * 1_000)
    topics, pipeline = InMemoryTopics(*logs.values()), beam.Pipeline(runner=FnApiRunner())
    group = SyncGroup("group", list(logs), max_drift=timedelta(seconds=20))
    options: dict[str, dict[str, Any]] = {
        "pins": {"rate_limit": RateLimit(records_per_s=100)},
        "views": {"wait_for": {"pins": "1970-01-01T00:04:00Z"}},
    }
    for name in logs:
        read = ReadUnified(
            name,
            topics.kafka,
            None,
            timestamp_fn=KafkaTimestamp(),
            stop=Stop.now(),
            sync=group,
            **options.get(name, {}),
        )
        read._options = replace(read._options, budget=CallBudget(batch_records=50))
        _ = pipeline | name >> read
    return emitted(pipeline)


def test_what_a_sync_group_does_is_counted(in_step):
    """How long each rule held readers, by topic; the spread of the group, and its health."""
    assert {hold.value for hold in Hold} == set(metrics.HELD_MS)
    assert in_step["beam_unified/views", "held_by_gate_ms"][1] > 0
    assert in_step["beam_unified/pins", "held_by_rate_ms"][1] > 0
    assert in_step["beam_unified/clicks", "held_by_drift_ms"][1] > 0
    assert {name for where, name in in_step if where == "beam_unified"} == {
        "sync_gap_ms",
        "sync_silent_members",
        "sync_coordinator_lost_ms",
    }


def test_every_metric_is_emitted(reading, in_step):
    """What these pipelines emit, what needs a broker (integration/test_observability.py), and nothing else."""
    found = {name for _, name in (*reading, *in_step)}
    assert {one.name for one in metrics.ALL} - found == NEEDS_A_BROKER
    assert found <= {one.name for one in metrics.ALL}
