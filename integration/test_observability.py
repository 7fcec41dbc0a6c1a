"""B3 on the real thing: metrics through Flink's REST interface and its Prometheus reporter, a dashboard and alerts that work."""

import json
import re
import time
import uuid
from contextlib import contextmanager
from datetime import timedelta
from functools import partial

import apache_beam as beam
import fsspec
import pytest
import yaml
from apache_beam.options.pipeline_options import PipelineOptions
from kafka import KafkaProducer

from beam_unified import (
    Archive,
    ArchiveTopic,
    Field,
    Json,
    KafkaSyncTopic,
    RateLimit,
    ReadUnified,
    SyncGroup,
    WriteKafka,
    connect_record,
    metrics,
)
from integration.services import lifecycle
from integration.services.flink import FlinkCluster, flink_pipeline_options
from integration.services.prometheus import OBSERVABILITY, Prometheus, check_rules
from integration.unlimited_log import Scenario

pytestmark = [
    pytest.mark.rule("B3"),
    # A job that is cancelled hangs up on the workers in this process, whose threads end with gRPC's error.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
]

# What this job has no occasion for; tests/test_metrics.py has.
QUIET = {"handoffs_to_archive", "duplicates_dropped_estimate", "late_files"}
# Which alerts this job provokes; and which it must not, or which need longer than a test lasts.
FIRE = {"BeamUnifiedCorruptedRecords", "BeamUnifiedGap"}
PEND = {"BeamUnifiedLateRecords", "BeamUnifiedLag", "BeamUnifiedStandsStill"}
REST = {
    "BeamUnifiedFellOffRetention",
    "BeamUnifiedLateFile",
    "BeamUnifiedSyncMemberSilent",
    "BeamUnifiedSyncCoordinatorLost",
}


class Job:
    """Pins with bad records and a gap, slow by their limit; clicks that run ahead; views that wait; an archiver."""

    def __init__(self, kafka, object_store):
        self.kafka = kafka
        self.storage = object_store
        self.pins, self.views, self.clicks = (self.topic(2), self.topic(1), self.topic(1))
        self.pins.produce(300)
        self.pins.archive_and_expire(flushes=3)
        self.lose_a_flush()
        self.pins.produce(50)
        self.spoil(3)
        self.pins.produce(600)
        for scenario in (self.views, self.clicks):
            scenario.produce(700)
        self.letters = kafka.create_topic(f"dead-{uuid.uuid4().hex[:8]}")

    def topic(self, partitions):
        root = f"s3://{self.storage.make_bucket('observed')}/merced"
        return Scenario(self.kafka, Archive(root, self.storage.storage_options), partitions=partitions)

    def lose_a_flush(self):
        """Its commit is gone, and so are its records."""
        files, root = fsspec.url_to_fs(self.pins.archive.root, **self.storage.storage_options)
        commits = sorted(files.find(f"{root}/{self.pins.topic}/_commits"))
        files.rm(commits[1])

    def spoil(self, records):
        """Writes records that no decoder understands."""
        producer = KafkaProducer(bootstrap_servers=self.kafka.bootstrap_servers)
        for _ in range(records):
            producer.send(self.pins.topic, b"no JSON", partition=0)
        producer.close()

    def run(self, name, options):
        pipeline = beam.Pipeline(options=PipelineOptions([*options, f"--job_name={name}"]))
        group = SyncGroup(
            "observed",
            [self.pins.topic, self.views.topic, self.clicks.topic],
            max_drift=timedelta(seconds=40),
            coordinator=KafkaSyncTopic(kafka=self.pins.kafka),
        )
        result = pipeline | "pins" >> self.read(
            self.pins, group, dead_letters=True, on_gap="skip", rate_limit=RateLimit(records_per_s=300)
        )
        _ = result.dead_letters | beam.Map(connect_record) | WriteKafka(self.letters, self.pins.kafka)
        _ = pipeline | "views" >> self.read(self.views, group, wait_for={self.pins.topic: "2014-01-01T00:00:00Z"})
        _ = pipeline | "clicks" >> self.read(self.clicks, group)
        _ = pipeline | ArchiveTopic(self.views.topic, self.views.kafka, self.views.archive, flush_records=200)
        pipeline.run()

    def read(self, scenario, group, **options):
        archive = scenario.archive if scenario is self.pins else None
        return ReadUnified(
            scenario.topic, scenario.kafka, archive, timestamp_fn=Field("time", unit="ms"), decoder=Json(), sync=group,
            gap_timeout=timedelta(0), **options,
        )  # fmt: skip


def names_in_rest(flink, job_id):
    """Names of our metrics in Flink's REST interface, without the operator."""
    flink._fetch_metrics(job_id)
    found = set()
    for vertex in flink.get(f"/jobs/{job_id}")["vertices"]:
        ids = [metric["id"] for metric in flink.get(f"/jobs/{job_id}/vertices/{vertex['id']}/metrics")]
        found |= {one.rpartition(".beam_unified")[2] for one in ids if ".beam_unified" in one}
    return found


def wait_for(found, wanted, *, seconds):
    """Until it gives what is wanted; what is missing when the time is over is the error."""
    deadline = time.monotonic() + seconds
    while missing := wanted - found():
        assert time.monotonic() < deadline, f"not in {seconds} s: {sorted(missing)}"
        time.sleep(0.5)


def expressions():
    """Of the dashboard's panels, for all jobs and topics."""
    dashboard = json.loads((OBSERVABILITY / "dashboard.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            filled = target["expr"].replace("$__rate_interval", "1m").replace("$job", ".*").replace("$topic", ".*")
            yield panel["title"], filled


def rules():
    """Name -> expression, of the alerts."""
    (group,) = yaml.safe_load((OBSERVABILITY / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def ours(expression):
    """The metrics that an expression is about."""
    return set(re.findall(r"beam_unified_(\w+)", expression))


def test_the_files_name_every_metric():
    """Prometheus' own check; the rules that give labels back know every metric by its scope; the dashboard shows each."""
    check_rules()
    text = (OBSERVABILITY / "prometheus.yml").read_text(encoding="utf-8")
    for scope, labels in (
        ("topic", "_(.+)_("),
        ("partition", "_(.+)_[0-9]+_("),
        ("transform", "_("),
    ):
        (names,) = re.findall(rf"operator_beam_unified{re.escape(labels)}([a-z_|]+)\)\"", text)
        wanted = {one.name for one in metrics.ALL if one.scope == scope and one.kind != "distribution"}
        assert set(names.split("|")) == wanted
    shown = {name for _, expression in expressions() for name in ours(expression)}
    assert shown == {one.name for one in metrics.ALL if one.kind != "distribution"}
    assert set(rules()) == FIRE | PEND | REST


def test_flink_and_prometheus(kafka, object_store, flink: FlinkCluster, service_run):
    """Every metric is in Flink's REST interface, and all but distributions in Prometheus; dashboard and alerts find them.

    A counter's first value is enough for an alert: corrupted records, and a gap, fire without a second one.
    """
    job, name = Job(kafka, object_store), f"observed-{uuid.uuid4().hex[:8]}"
    with prometheus_over(flink, service_run) as prometheus:
        extra = ["--finish_bundle_before_checkpointing", "--max_bundle_time_mills=100"]
        job.run(name, flink_pipeline_options(flink.job_endpoint, parallelism=1, extra=extra))
        job_id = flink.job_id(name)
        wanted = {one.name for one in metrics.ALL} - QUIET
        endings = re.compile("_(" + "|".join(sorted(wanted, key=len, reverse=True)) + ")$")
        wait_for(lambda: {endings.search(one)[1] for one in names_in_rest(flink, job_id)}, wanted, seconds=60)  # type: ignore[index]

        pins, scraped = job.pins.topic.replace("-", "_"), wanted - {"late_by_ms"}

        def stored():
            return {one["metric"]["__name__"] for one in prometheus.query('{__name__=~"beam_unified_.+"}')}

        wait_for(stored, {f"beam_unified_{name}" for name in scraped}, seconds=20)
        (corrupted,) = prometheus.query("sum by (topic, job_name) (beam_unified_corrupted_records)")
        assert corrupted["metric"]["topic"] == pins
        assert corrupted["value"][1] == "3"
        lags = prometheus.query(f'beam_unified_lag_records_estimate{{topic="{pins}"}}')
        assert {lag["metric"]["partition"] for lag in lags} == {"0", "1"}

        wait_for(lambda: {name for name, states in prometheus.alerts().items() if "firing" in states}, FIRE, seconds=20)
        assert set(prometheus.alerts()) <= FIRE | PEND
        for title, expression in expressions():
            assert prometheus.query(expression) or ours(expression) <= QUIET, f"{title}: {expression}"
        for alert, expression in rules().items():
            prometheus.query(expression)
            assert ours(expression) - QUIET <= scraped, alert


@contextmanager
def prometheus_over(flink, run):
    """One that scrapes the cluster."""
    server = lifecycle.ensure(Prometheus, run, partial(Prometheus.start, targets=flink.metrics_addresses()))
    try:
        yield server
    finally:
        lifecycle.stop(Prometheus, run)
