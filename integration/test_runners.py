"""The same pipeline on every runner, over a real broker and a real S3 server, against the producer's ledger."""

import contextlib
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from beam_unified import Archive, Stop
from integration.services.flink import FlinkCluster, flink_pipeline_options
from integration.unlimited_log import CountInState, Results, Scenario, SlowDown, Stall, window_and_write, write_windows

# A runner that is cancelled or killed hangs up on the workers in this process, whose threads end with gRPC's error.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

RECORDS = 3_000
PARTITIONS = 3
CLOSING_JUMP_MS = 3_600_000  # one record far ahead in event time closes the windows of its partition


@pytest.fixture
def archive(object_store):
    return Archive(f"s3://{object_store.make_bucket('archive')}/merced", object_store.storage_options)


@pytest.fixture
def scenario(kafka, archive) -> Scenario:
    """Events out of order."""
    return filled(Scenario(kafka, archive, partitions=PARTITIONS))


@pytest.fixture
def scenario_in_order(kafka, archive) -> Scenario:
    """Events in order, and nothing allowed to be late: a watermark that runs ahead by anything loses records."""
    return filled(Scenario(kafka, archive, partitions=PARTITIONS, out_of_orderness=timedelta(0)))


def filled(scenario: Scenario) -> Scenario:
    """Six tenths only in the archive, the rest only in Kafka."""
    scenario.produce(RECORDS * 6 // 10)
    scenario.archive_and_expire(flushes=4)
    scenario.produce(RECORDS * 4 // 10)
    return scenario


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results(tmp_path)


def wait_for(results: Results, done: Callable[[], bool], *, seconds: float) -> None:
    """Waits until the files say so."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, (
            f"not done in {seconds} s: read {dict(results.progress())}, windows {len(results.windows())}"
        )
        time.sleep(0.2)


def check_bounded(scenario: Scenario, results: Results) -> None:
    """Every offset of every partition once, in order; every window complete."""
    assert results.read_order() == scenario.ledger.offsets()
    assert results.problems(scenario.ledger.windows()) == []
    assert results.windows().keys() == scenario.ledger.windows().keys()
    read = results.progress()
    assert read == {False: PARTITIONS * RECORDS * 6 // 10, True: PARTITIONS * RECORDS * 4 // 10}


def run_bounded(scenario: Scenario, results: Results, options: PipelineOptions, runner=None) -> None:
    with beam.Pipeline(runner=runner, options=options) as pipeline:
        records = pipeline | scenario.read(stop=Stop.offsets(scenario.stop_offsets()))
        window_and_write(records, results.folder)


@contextlib.contextmanager
def running(scenario: Scenario, results: Results, options: list[str], *, slow: float = 0.0):
    """The unbounded pipeline; cancelled at the end."""
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    records = pipeline | scenario.read()
    if slow:
        records = records | "Slow" >> beam.ParDo(SlowDown(slow))
    window_and_write(records, results.folder)
    result = pipeline.run()
    try:
        yield
    finally:
        result.cancel()


def check_unbounded(scenario: Scenario, results: Results, *, seconds: float) -> None:
    """Every window of the ledger fires, each with exactly its offsets; offsets once and in order."""
    expected = scenario.ledger.windows()
    scenario.produce(1, jump_ms=CLOSING_JUMP_MS)
    wait_for(results, lambda: expected.keys() <= results.windows().keys(), seconds=seconds)
    assert results.problems(expected) == []


@pytest.mark.rule("R1", "R9")
def test_fn_api_runner_bounded(scenario, results):
    """R1, R9: archive then Kafka up to a stop on FnApiRunner: each offset once, in order, every window complete."""
    run_bounded(scenario, results, PipelineOptions([]), FnApiRunner())
    check_bounded(scenario, results)


@pytest.mark.rule("R1", "R9")
def test_direct_runner_as_users_type_it(scenario, results):
    """R1, R9: the same with --runner=DirectRunner, whichever implementation Beam picks for it."""
    run_bounded(scenario, results, PipelineOptions(["--runner=DirectRunner"]))
    check_bounded(scenario, results)


@pytest.mark.rule("R1", "R9")
def test_prism_bounded(scenario, results, prism):
    """R1, R9: the same on Prism, which asks for splits of a running read."""
    run_bounded(scenario, results, PipelineOptions(prism_options(prism)))
    check_bounded(scenario, results)


@pytest.mark.rule("R1", "R7", "T1")
def test_prism_with_a_stage_that_stalls(scenario, results, prism):
    """R1, R7, T1: calls that make no progress for a while, which is when Prism asks for splits: nothing fails or is late."""
    with beam.Pipeline(options=PipelineOptions([*prism_options(prism), "--streaming"])) as pipeline:
        records = pipeline | scenario.read(stop=Stop.offsets(scenario.stop_offsets()))
        window_and_write(records | "Stall" >> beam.ParDo(Stall(0.5, every=500)), results.folder)
    check_bounded(scenario, results)


@pytest.mark.rule("R1", "R9")
def test_flink_batch(scenario, results, flink: FlinkCluster):
    """R1, R9: the same as a batch job on a Flink cluster."""
    options = flink_pipeline_options(flink.job_endpoint, streaming=False, checkpointing_interval=None, restarts=0)
    run_bounded(scenario, results, PipelineOptions(options))
    check_bounded(scenario, results)


@pytest.mark.rule("R1", "T1", "T4")
def test_prism_unbounded(scenario, results, prism):
    """R1, T1: on Prism without a stop, while a producer goes on writing: nothing lost, doubled, out of order or late."""
    options = [*prism_options(prism), "--streaming"]
    with running(scenario, results, options):
        for _ in range(5):
            scenario.produce(100)
        check_unbounded(scenario, results, seconds=120)
        assert results.read_order() == scenario.ledger.offsets()


@pytest.mark.rule("R1", "T1", "T4")
def test_flink_unbounded(scenario, results, flink: FlinkCluster):
    """R1, T1, T4: the same on the Flink cluster, with checkpoints; the runner itself counts no late drop."""
    options = [*flink_options(flink), "--job_name=unbounded"]
    with running(scenario, results, options):
        job = flink.job_id("unbounded")
        for _ in range(5):
            scenario.produce(100)
        check_unbounded(scenario, results, seconds=120)
        assert results.read_order() == scenario.ledger.offsets()
        assert flink.late_drops(job) == 0
        flink.cancel(job)


@pytest.mark.rule("R1", "R8", "T1")
def test_flink_survives_kills(scenario, results, flink: FlinkCluster):
    """R1, R8: kill -9 of the task manager in the archive part, across the handoff and in the Kafka part: windows exact."""
    options = [*flink_options(flink), "--job_name=killed"]
    total = PARTITIONS * RECORDS
    with running(scenario, results, options, slow=0.004):
        job = flink.job_id("killed")
        for from_kafka, share in ((False, 0.15), (True, 0.0), (True, 0.25)):
            wait_for(results, lambda store=from_kafka, n=total * share: results.progress()[store] > n, seconds=120)  # type: ignore[misc]
            flink.kill_task_manager()
            flink.start_task_manager()
        check_unbounded(scenario, results, seconds=120)
        assert {p: sorted(set(offsets)) for p, offsets in results.read_order().items()} == scenario.ledger.offsets()
        assert flink.restarts(job) >= 3
        flink.cancel(job)


@pytest.mark.rule("T4")
@pytest.mark.parametrize("stop", [False, True], ids=["unbounded", "with-stop"])
@pytest.mark.parametrize("option", [False, True], ids=["default", "finish-bundle-first"])
def test_flink_makes_nothing_late(scenario_in_order, results, flink: FlinkCluster, *, option: bool, stop: bool):
    """T4: checkpoints every 0.5 s, a stateful stage, one slow partition, small windows: no window is short.

    Without the rule whole calls of the slow partition are dropped here as late, with no failure at all.
    """
    scenario = scenario_in_order
    extra = ["--job_name=late-loss", "--max_bundle_time_mills=100", "--shutdown_sources_after_idle_ms=0"]
    extra += ["--finish_bundle_before_checkpointing"] if option else []
    options = flink_pipeline_options(
        flink.job_endpoint, parallelism=2, checkpointing_interval=timedelta(milliseconds=500), restarts=0, extra=extra
    )
    expected = scenario.ledger.windows(window_s=2)
    if not stop:
        scenario.produce(1, jump_ms=CLOSING_JUMP_MS)
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    keyed = (
        pipeline
        | scenario.read(stop=Stop.offsets(scenario.stop_offsets()) if stop else None)
        | "Slow" >> beam.ParDo(SlowDown(0.003, partitions=[0]))
        | "Key" >> beam.Map(lambda r: (r.partition, r.offset))
        | "Stateful" >> beam.ParDo(CountInState())
    )
    write_windows(keyed, results.folder, window_s=2)
    result = pipeline.run()
    try:
        job = flink.job_id("late-loss")
        wait_for(results, lambda: expected.keys() <= results.windows().keys(), seconds=120)
        assert results.problems(expected) == []
        if stop:
            flink.wait_for_state(job, "FINISHED")  # its metrics are gone with it
        else:
            assert flink.late_drops(job) == 0
    finally:
        if not stop:
            flink.cancel(job)
        result.cancel()


def prism_options(prism: Path) -> list[str]:
    """A Prism of this pipeline's own: the one that Beam shares in a process may be a failed attempt of DirectRunner's."""
    return ["--runner=PrismRunner", f"--prism_location={prism}", "--experiments=disable_prism_server_singleton"]


def flink_options(flink: FlinkCluster) -> list[str]:
    """Streaming with a checkpoint every 2 s, as docs/runners.md advises."""
    extra = ["--finish_bundle_before_checkpointing", "--max_bundle_time_mills=100"]
    return flink_pipeline_options(flink.job_endpoint, parallelism=2, extra=extra)
