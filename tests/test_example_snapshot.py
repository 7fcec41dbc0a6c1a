"""The example of docs/snapshots.md: a regression test over a pinned data set, as a user would keep it beside a pipeline.

Production takes the snapshot once, from Kafka and S3; here a log in memory and a folder stand in for them.
"""

import json

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows

from beam_unified import Archive, JsonField, ReadUnified, Snapshot, SnapshotChangedError
from beam_unified.testing import InMemoryLog, PartitionDigest, PartitionDigests, assert_same_digests, same_digests

pytestmark = pytest.mark.rule("R9")

EVENT_TIME = JsonField("at", unit="s")


def views_per_minute(p, read):
    """A user's pipeline, as a function of what reads."""
    return (
        p
        | read
        | beam.WindowInto(FixedWindows(60))
        | beam.Map(lambda value: json.loads(value)["pin"])
        | beam.combiners.Count.PerElement()
    )


@pytest.fixture
def data(tmp_path):
    """The snapshot file, as it was taken once; its files lie in `archive` beside it."""
    log = InMemoryLog("views")
    for pin, at in (("a", 10), ("b", 70), ("a", 20), ("a", 75)):
        log.append(0, json.dumps({"pin": pin, "at": at}).encode(), timestamp=1)
    snapshot = Snapshot.capture(log.kafka, Archive(f"{tmp_path}/archive"), "views", archive_missing=True)
    snapshot.save(tmp_path / "views.json")
    return tmp_path / "views.json"


def test_the_pipeline_gives_what_it_gave(data):
    """After every change of the pipeline, and every upgrade of Beam or a runner."""
    read = ReadUnified.from_snapshot(data, timestamp_fn=EVENT_TIME)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        assert_that(views_per_minute(p, read), equal_to([("a", 2), ("b", 1), ("a", 1)]))


EXPECTED = [
    PartitionDigest("views", 0, 4, 0, 3, "a1cc6f8cfd184d7a5746c464e38f527dc321e3260549899d6de35e1e22ab60c3", 0, 0)
]


def test_the_data_set_is_what_it_was(data):
    """To the byte, the order and the event time; the digests were printed when the snapshot was taken."""
    read = ReadUnified.from_snapshot(data, timestamp_fn=EVENT_TIME, output="record")
    with beam.Pipeline(runner=FnApiRunner()) as p:
        assert_that(p | read | PartitionDigests(), same_digests(EXPECTED))


def test_a_difference_is_named():
    """So that the failing test says where to look."""
    (one,) = EXPECTED
    with pytest.raises(AssertionError, match=r"views\[0\]: records is 3, expected 4"):
        assert_same_digests([one._replace(records=3)], EXPECTED)


def test_a_changed_archive_fails_the_test_not_the_result(data):
    """Nobody looks for a bug in the pipeline because a file was lost."""
    next(data.parent.rglob("*.parquet")).unlink()
    with pytest.raises(SnapshotChangedError, match=r"\.parquet is missing"), beam.Pipeline(runner=FnApiRunner()) as p:
        views_per_minute(p, ReadUnified.from_snapshot(data, timestamp_fn=EVENT_TIME))


def test_the_archive_may_have_been_moved(data, tmp_path):
    """A checkout in another folder, a bucket in another region."""
    (data.parent / "archive").rename(tmp_path / "copy")
    read = ReadUnified.from_snapshot(data, timestamp_fn=EVENT_TIME, archive_root=f"{tmp_path}/copy")
    with beam.Pipeline(runner=FnApiRunner()) as p:
        assert_that(views_per_minute(p, read), equal_to([("a", 2), ("b", 1), ("a", 1)]))
