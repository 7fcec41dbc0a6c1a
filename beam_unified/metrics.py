"""Every metric, by name (B3). The only module that asks Beam for one; docs/metrics.md says what to do about each.

Beam's metrics carry no labels but their namespace, so that is where the labels are:

    beam_unified                      of a transform or its sync group
    beam_unified/<topic>              of a topic
    beam_unified/<topic>/<partition>  of a partition

Neither topics nor names hold a "/". Where a runner's reporter makes "_" of it, as Flink's for Prometheus does, a rule
over the list of names gives the labels back (integration/observability/prometheus.yml); no name ends in "_" and
another name, so that there is one way to read it.

Counters are counted once a batch, gauges set once a call of `process`. Never once a record.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from apache_beam.metrics import Metrics

from beam_unified.offsets import TopicPartition
from beam_unified.records import Store

NAMESPACE: Final = "beam_unified"

Kind = Literal["counter", "gauge", "distribution"]
Scope = Literal["transform", "topic", "partition"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: Stable: dashboards depend on it.
        kind: Counters only grow, and start anew with the job; gauges are the last value.
        unit: Of the value.
        scope: What its namespace names.
    """

    name: str
    kind: Kind
    unit: str
    scope: Scope = "topic"

    def of(self, topic: str | None = None, partition: int | None = None) -> Any:
        """The metric of a topic, or a partition, as Beam's `Counter`, `Gauge` or `Distribution`. Cheap to ask again."""
        return _of(self, "/".join(str(part) for part in (NAMESPACE, topic, partition) if part is not None))


@cache
def _of(metric: Metric, namespace: str) -> Any:
    return getattr(Metrics, metric.kind)(namespace, metric.name)


# Reading.
RECORDS: Final = {store: Metric(f"records_from_{store.value}", "counter", "records") for store in Store}
BYTES: Final = {store: Metric(f"bytes_from_{store.value}", "counter", "bytes") for store in Store}
HANDOFFS: Final = {store: Metric(f"handoffs_to_{store.value}", "counter", "handoffs") for store in Store}
CORRUPTED: Final = Metric("corrupted_records", "counter", "records")
DEAD_LETTERS: Final = Metric("dead_letters", "counter", "dead letters")
GAPS: Final = Metric("gaps", "counter", "gaps")
LATE_FILES: Final = Metric("late_files", "counter", "late files")
GAP_OFFSETS: Final = Metric("gap_offsets", "counter", "offsets")
DUPLICATES: Final = Metric("duplicates_dropped_estimate", "counter", "offsets")
LATE: Final = Metric("late_records", "counter", "records")
LATE_MS: Final = Metric("late_ms", "counter", "milliseconds")
LATE_BY_MS: Final = Metric("late_by_ms", "distribution", "milliseconds")
LAG_RECORDS: Final = Metric("lag_records_estimate", "gauge", "records", "partition")
LAG_MS: Final = Metric("lag_ms_estimate", "gauge", "milliseconds", "partition")

# In a sync group.
HELD_MS: Final = {
    reason: Metric(f"held_by_{reason}_ms", "counter", "milliseconds")
    for reason in ("gate", "drift", "rate", "coordinator")
}
SYNC_GAP_MS: Final = Metric("sync_gap_ms", "gauge", "milliseconds", "transform")
SYNC_SILENT: Final = Metric("sync_silent_members", "gauge", "partitions", "transform")
SYNC_LOST_MS: Final = Metric("sync_coordinator_lost_ms", "gauge", "milliseconds", "transform")

# Writing.
RECORDS_WRITTEN: Final = Metric("records_written", "counter", "records")
BYTES_WRITTEN: Final = Metric("bytes_written", "counter", "bytes")
FLUSHES_ARCHIVED: Final = Metric("flushes_archived", "counter", "flushes")

ALL: Final = (
    *RECORDS.values(), *BYTES.values(), *HANDOFFS.values(), CORRUPTED, DEAD_LETTERS, GAPS, GAP_OFFSETS, LATE_FILES, DUPLICATES,
    LATE, LATE_MS, LATE_BY_MS, LAG_RECORDS, LAG_MS, *HELD_MS.values(), SYNC_GAP_MS, SYNC_SILENT, SYNC_LOST_MS,
    RECORDS_WRITTEN, BYTES_WRITTEN, FLUSHES_ARCHIVED,
)  # fmt: skip


def set_lag(tp: TopicPartition, *, records: int, milliseconds: int | None) -> None:
    """How far a reader is behind the end of its log; None where no time is known."""
    LAG_RECORDS.of(tp.topic, tp.partition).set(records)
    if milliseconds is not None:
        LAG_MS.of(tp.topic, tp.partition).set(milliseconds)
