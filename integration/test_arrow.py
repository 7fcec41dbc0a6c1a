"""Columns over a real broker and S3: split at random, and on runners, where no window may be short."""

from datetime import timedelta

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_unified import Archive, ExplodeBatches, Stop
from beam_unified.harness import sample
from integration.services.flink import FlinkCluster, flink_pipeline_options
from integration.test_runners import CLOSING_JUMP_MS, check_bounded, filled, prism_options, wait_for
from integration.unlimited_log import Results, Scenario, window_and_write, write_windows

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def archive(object_store):
    return Archive(f"s3://{object_store.make_bucket('columns')}/merced", object_store.storage_options)


@pytest.mark.rule("R1", "T4", "B5")
def test_random_splits_over_real_stores(kafka, archive):
    """R1, T4, B5: in both halves the records of one plain read, with their event times; no batch is late."""
    scenario = Scenario(kafka, archive, partitions=1)
    scenario.produce(600)
    scenario.archive_and_expire(flushes=3)
    scenario.produce(400)
    element, stop = (scenario.topic, 0), Stop.offsets(scenario.stop_offsets())
    report = sample(scenario.read(stop=stop, output="arrow"), element, runs=6, seed=11)
    assert report.emitted == sample(scenario.read(stop=stop), element, runs=0, seed=0).emitted
    assert [record.offset for record, _ in report.emitted] == scenario.ledger.offsets()[0]
    assert {record.store for record, _ in report.emitted} == {"archive", "kafka"}
    assert report.splits > 3


@pytest.mark.rule("R1", "T1")
def test_prism(kafka, archive, prism, tmp_path):
    """R1, T1: archive then Kafka, as batches that are taken apart: each offset once, every window complete."""
    scenario, results = filled(Scenario(kafka, archive, partitions=3)), Results(tmp_path)
    with beam.Pipeline(options=PipelineOptions(prism_options(prism))) as pipeline:
        batches = pipeline | scenario.read(stop=Stop.offsets(scenario.stop_offsets()), output="arrow")
        window_and_write(batches | ExplodeBatches(), results.folder)
    check_bounded(scenario, results)


@pytest.mark.rule("T4")
def test_flink_makes_nothing_late(kafka, archive, flink: FlinkCluster, tmp_path):
    """T4: nothing may be out of order, checkpoints every 0.5 s, batches over a shuffle: no window is short."""
    scenario = filled(Scenario(kafka, archive, partitions=3, out_of_orderness=timedelta(0)))
    results, expected = Results(tmp_path), scenario.ledger.windows(window_s=2)
    scenario.produce(1, jump_ms=CLOSING_JUMP_MS)
    options = flink_pipeline_options(
        flink.job_endpoint,
        parallelism=2,
        checkpointing_interval=timedelta(milliseconds=500),
        restarts=0,
        extra=["--job_name=columns", "--max_bundle_time_mills=100", "--finish_bundle_before_checkpointing"],
    )
    pipeline = beam.Pipeline(options=PipelineOptions(options))
    records = pipeline | scenario.read(output="arrow") | beam.Reshuffle() | ExplodeBatches()
    write_windows(records | "Key" >> beam.Map(lambda r: (r.partition, r.offset)), results.folder, window_s=2)
    result = pipeline.run()
    job = flink.job_id("columns")
    try:
        wait_for(results, lambda: expected.keys() <= results.windows().keys(), seconds=120)
        assert results.problems(expected) == []
        assert flink.late_drops(job) == 0
    finally:
        flink.cancel(job)
        result.cancel()
