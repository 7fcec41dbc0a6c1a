"""Late files over a real broker and a real S3 server: found by listing and by announcements, on the runners, afterwards."""

import contextlib
import uuid
from collections.abc import Callable
from datetime import timedelta

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from beam_unified import (
    Announced,
    DeadLetter,
    KafkaCommitTopic,
    KafkaTimestamp,
    LateFile,
    ReadUnified,
    Start,
    Stop,
    find_late_files,
)
from beam_unified.archive.writer import write_flush
from integration.test_archiver import wait_until
from integration.test_reading_rules import Log
from integration.test_runners import flink_options, prism_options
from integration.unlimited_log import Results, WriteLines

# A runner that is cancelled or killed hangs up on the workers in this process, whose threads end with gRPC's error.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),
    pytest.mark.rule("A4"),
]

WHEN_BEHIND: list[Callable[[], None]] = []
"""What happens when the reader has come behind the gap: observers travel pickled, a module does not."""


class World:
    """Offsets 0 to 29 only in the archive, but for 10 to 19, which are nowhere; 30 to 39 in Kafka."""

    def __init__(self, broker, store):
        self.log = Log(broker, store)
        self.commits = KafkaCommitTopic(kafka=self.log.kafka, topic=f"{self.log.topic}-commits")
        self._announcer = self.commits.connect()
        self.log.append(30)
        self._late = self.log.records(10, 20)
        for start in (0, 20):
            self._announcer.announce(self.log.flush(start, start + 10))
        self.log.expire(30)
        self.log.append(10)

    def close(self):
        self._announcer.close()

    def lands(self):
        """The missing file, two offsets longer than the gap on either side, which others hold and were read."""
        self._announcer.announce(write_flush(self.log.archive, self.log.tp, self._late, start=8, stop=22))

    def archive(self, index):
        return self.log.archive if index == "listing" else Announced(self.log.archive, self.commits, index=index)

    def read(self, index="listing", **options):
        return ReadUnified(
            self.log.topic, self.log.kafka, self.archive(index), timestamp_fn=KafkaTimestamp(), output="record",
            start=Start.offsets({0: 0}), on_gap="skip", gap_timeout=timedelta(0), dead_letters=True, late_files=True,
            **options,
        )  # fmt: skip

    @property
    def told(self):
        """The late file, without when it was noticed."""
        folder = f"{self.log.archive.root}/{self.log.topic}/_commits/0"
        times = "-".join(f"{record.timestamp:020d}" for record in (self._late[0], self._late[-1]))
        return [self.log.topic, 0, 8, 22, [[10, 20]], f"{folder}/{8:020d}-{22:020d}-{times}.json"]


@pytest.fixture
def world(kafka, object_store):
    with contextlib.closing(World(kafka, object_store)) as world:
        yield world


def when_behind(progress):
    while progress.next_offset > 22 and WHEN_BEHIND:
        WHEN_BEHIND.pop()()


def plain(late):
    return [late.topic, late.partition, late.start, late.stop, [list(pair) for pair in late.skipped], late.path]


@pytest.mark.rule("R5", "B3")
@pytest.mark.parametrize("index", ["listing", "announcements", "both"])
def test_a_flush_that_lands_behind_a_reader_is_told_of(world, index):
    """A4: by listing and by announcements alike; its records are in no output, what it repeats is in none twice."""
    WHEN_BEHIND.append(world.lands)
    pipeline = beam.Pipeline(runner=FnApiRunner())
    found = pipeline | world.read(index, stop=Stop.offsets({0: 40}), on_progress=when_behind)
    offsets = found.records | "Offset" >> beam.Map(lambda record: record.offset)
    assert_that(offsets, equal_to([*range(10), *range(20, 40)]), label="records")
    assert_that(found.late_files | "Plain" >> beam.Map(plain), equal_to([world.told]), label="late")
    result = pipeline.run()
    result.wait_until_finish()
    counted = {one.key.metric.name: one.committed for one in result.metrics().query()["counters"]}
    assert (counted["late_files"], counted["gaps"]) == (1, 1)


@pytest.mark.parametrize("index", ["listing", "announcements", "both"])
def test_after_the_end_somebody_asks(world, index):
    """A4: a gap that was still one when the read ended, asked about later, with the dead letter that it left."""
    gap = DeadLetter(world.log.topic, 0, 10, 20, "gap", "", None)
    assert find_late_files(world.archive(index), [gap]) == ()
    world.lands()
    (late,) = find_late_files(world.archive(index), [gap])
    assert isinstance(late, LateFile)
    assert plain(late) == world.told


@pytest.mark.rule("R8", "B3")
@pytest.mark.parametrize(("runner", "index"), [("flink", "listing"), ("prism", "announcements")])
def test_a_reader_that_goes_on_for_ever_keeps_looking(world, runner, index, tmp_path, request):
    """A4: in Kafka already, on Flink and on Prism: the file comes out, once, and is counted; the reader reads on."""
    results, service = Results(tmp_path), request.getfixturevalue(runner)
    name = f"late-{uuid.uuid4().hex[:6]}"
    options = [*flink_options(service), f"--job_name={name}"] if runner == "flink" else prism_options(service)
    pipeline = beam.Pipeline(options=PipelineOptions([*options, "--streaming"]))
    found = pipeline | world.read(index, late_file_interval=timedelta(seconds=1))
    for kind, output, row in (
        ("records", found.records, lambda record: [record.partition, record.offset, 0]),
        ("gaps", found.dead_letters, lambda letter: [letter.offset, letter.stop]),
        ("late", found.late_files, plain),
    ):
        rows = output | f"Row of {kind}" >> beam.Map(row)
        _ = rows | f"Write {kind}" >> beam.ParDo(WriteLines(results.folder, kind))
    result = pipeline.run()
    try:
        wait_until(lambda: results.read_order().get(0, [])[-1:] == [39], "everything that is there")
        assert list(results.lines("gaps")) == [[10, 20]]
        assert list(results.lines("late")) == []
        world.lands()
        wait_until(lambda: list(results.lines("late")), "the late file")
        world.log.append(5)
        wait_until(lambda: results.read_order()[0][-1:] == [44], "what came afterwards")
        assert list(results.lines("late")) == [world.told]
        assert results.read_order()[0] == [*range(10), *range(20, 45)]
        if runner == "flink":
            assert service.counter(service.job_id(name), "late_files") == 1
        else:
            counted = {one.key.metric.name: one.result for one in result.metrics().query()["counters"]}
            assert counted["late_files"] == 1
    finally:
        if runner == "flink":
            service.cancel(service.job_id(name))
        result.cancel()
