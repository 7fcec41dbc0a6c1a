"""Sync groups on the runners: workers in processes of their own on Flink, killed while a gate is closed; Prism; DirectRunner."""

import contextlib
import os
import signal
import time
from datetime import timedelta

import apache_beam as beam
import psutil
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_unified import Archive, KafkaSyncTopic, RateLimit, SyncGroup
from integration.services.flink import FlinkCluster, flink_pipeline_options
from integration.synced_job import BEGIN_MS, SyncedJob, Topic
from integration.test_runners import prism_options

# A runner that is cancelled or killed hangs up on the workers in this process, whose threads end with gRPC's error.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

DRIFT_MS = 600_000
RATE = 400
NEWS_S = 10.0  # how old news of others may be after a restore, when readers have gone back; else they only go forward
# Beam spreads partitions over the workers at random: so many that one is left without any once in two thousand runs.
SLOW = Topic(partitions=3, records=3_300, step_ms=2_000)
FAST = Topic(partitions=5, records=16_000, step_ms=400)
LATER = Topic(partitions=2, records=1_000, step_ms=2_000)
OPENS_MS = BEGIN_MS + 2_600 * SLOW.step_ms


@pytest.fixture
def archive(object_store):
    return Archive(f"s3://{object_store.make_bucket('synced')}/merced", object_store.storage_options)


def wait_until(done, *, seconds, what):
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what}: not in {seconds} s"
        time.sleep(0.2)


def iso_ms(ms):
    return beam.utils.timestamp.Timestamp(micros=ms * 1_000).to_rfc3339()


@pytest.mark.rule("S1", "S2", "S3", "S4", "S6")
def test_workers_of_their_own_and_kills_while_a_gate_is_closed(
    kafka, archive, tmp_path, flink: FlinkCluster, worker_pool
):
    """S1 to S4 on Flink: two processes, connected by the Kafka coordinator alone; a worker and the task manager are killed.

    The gate opens when its condition holds, not before; the rate over all workers is kept over any ten seconds; nobody is
    further ahead than `max_drift` and a batch; and every record comes out.
    """
    job = SyncedJob(kafka, archive, tmp_path, {"slow": SLOW, "fast": FAST, "later": LATER})
    name = job.names
    group = SyncGroup(
        name["slow"],
        list(name.values()),
        max_drift=timedelta(milliseconds=DRIFT_MS),
        coordinator=KafkaSyncTopic(kafka=job.kafka),
    )
    options: dict[str, dict[str, object]] = {
        "slow": {"rate_limit": RateLimit(records_per_s=RATE)},
        "later": {"wait_for": {name["slow"]: iso_ms(OPENS_MS)}},
    }
    flink.start_task_manager()
    pipeline = beam.Pipeline(options=PipelineOptions(_flink(flink, worker_pool, name["slow"])))
    job.build(pipeline, group, options)
    result = pipeline.run()
    with contextlib.ExitStack() as stack:
        stack.callback(result.cancel)
        flink_job = flink.job_id(name["slow"])
        killed = []

        def slowest():
            own = {}
            for event in job.events():
                own[event.tp] = event.next_offset
            return min((own.get(tp, 0) for tp in job.members() if tp.topic == name["slow"]), default=0)

        wait_until(lambda: slowest() > 1_700, seconds=120, what="the slow topic began")
        wait_until(lambda: flink.completed_checkpoints(flink_job) > 0, seconds=60, what="a checkpoint, the gate closed")
        killed.append(time.time())
        _kill_a_worker(job)
        wait_until(lambda: flink.restarts(flink_job) >= 1, seconds=60, what="restart after a worker was killed")
        wait_until(lambda: slowest() > 2_200, seconds=120, what="the slow topic went on")
        killed.append(time.time())
        flink.kill_task_manager()
        flink.start_task_manager()
        assert not any(event.records for event in job.events() if event.tp.topic == name["later"])
        wait_until(lambda: job.offsets() == job.expected(), seconds=180, what="every record came out")
        assert flink.restarts(flink_job) >= 2
        assert flink.restored_checkpoints(flink_job) >= 2
    _check_processes(job, killed)
    _check_gate(job, name)
    _check_drift(job, name)
    _check_rate(job, name["slow"], killed)


def _flink(flink, worker_pool, name):
    extra = [
        "--finish_bundle_before_checkpointing", "--max_bundle_time_mills=100", f"--job_name={name}",
    ]  # fmt: skip
    return flink_pipeline_options(flink.job_endpoint, parallelism=2, worker_pool=worker_pool, extra=extra)


def _kill_a_worker(job):
    living = [event.pid for event in job.events() if psutil.pid_exists(event.pid)]
    assert os.getpid() not in living
    os.kill(living[-1], signal.SIGKILL)


def _check_processes(job, killed):
    """Readers were in two processes at a time at least, and never in this one: only the coordinator connects them."""
    before = {event.pid for event in job.events() if event.at < killed[0]}
    assert len(before) >= 2
    assert os.getpid() not in {event.pid for event in job.events()}


def _check_gate(job, name):
    """When the gated topic is read, all of the other one is at the instant."""
    read = 0
    for event, _, own in job.batches():
        if event.tp.topic == name["later"]:
            read += 1
            assert min(at for tp, at in own.items() if tp.topic == name["slow"]) >= OPENS_MS
    assert read
    assert "gate" in {event.held_by for event in job.events() if event.tp.topic == name["later"]}


def _check_drift(job, name):
    """Before its batch, nobody was further ahead of the slowest than the drift; gated readers do not count while held."""
    recent: list[tuple[float, float]] = []
    gated = True
    for event, before, own in job.batches():
        gated = gated and event.tp.topic != name["later"]
        slowest = min(at for tp, at in own.items() if not (gated and tp.topic == name["later"]))
        recent = [(at, level) for at, level in recent if at > event.at - NEWS_S]
        recent.append((event.at, slowest))
        assert before <= max(level for _, level in recent) + DRIFT_MS, event
    assert "drift" in {event.held_by for event in job.events() if event.tp.topic == name["fast"]}


def _check_rate(job, topic, killed):
    """Never above 1.1 times over ten seconds, whoever was killed; not below 0.9 before the first kill."""
    read = [(event.at, event.records) for event in job.events() if event.records and event.tp.topic == topic]
    most = max(sum(records for at, records in read if since <= at < since + 10) for since, _ in read) / 10
    settled = read[0][0] + 3
    steady = [(at, records) for at, records in read if settled < at < killed[0]]
    mean = sum(records for _, records in steady) / (steady[-1][0] - steady[0][0])
    print(f"{most:.0f} records/s over ten seconds at most, {mean:.0f} before the first kill, of {RATE}")
    assert most <= 1.1 * RATE
    assert mean >= 0.9 * RATE


@pytest.mark.rule("S2", "S3", "S6")
@pytest.mark.parametrize("runner", ["fn_api", "direct", "prism"])
def test_a_bounded_pipeline_of_one_process(kafka, archive, tmp_path, runner, request):
    """S3, S2: gate and drift between sources of one pipeline; the in-process coordinator is enough."""
    slow, fast = Topic(partitions=2, records=2_000, step_ms=1_000), Topic(partitions=1, records=20_000, step_ms=100)
    job = SyncedJob(kafka, archive, tmp_path, {"later": fast, "slow": slow})
    name = job.names
    group = SyncGroup(name["slow"], list(name.values()), max_drift=timedelta(milliseconds=DRIFT_MS))
    options = {"fn_api": [], "direct": ["--runner=DirectRunner"]}
    given = prism_options(request.getfixturevalue("prism")) if runner == "prism" else options[runner]
    engine = FnApiRunner() if runner == "fn_api" else None
    with beam.Pipeline(runner=engine, options=PipelineOptions(given)) as pipeline:
        job.build(pipeline, group, {"later": {"wait_for": {name["slow"]: iso_ms(BEGIN_MS + 1_500_000)}}})
    assert job.offsets() == job.expected()
    for event, _, own in job.batches():
        if event.tp.topic == name["later"]:
            assert min(at for tp, at in own.items() if tp.topic == name["slow"]) >= BEGIN_MS + 1_500_000
