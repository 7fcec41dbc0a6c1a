"""`ArchiveTopic` on FnApiRunner over a log in memory; and what a worker keeps between calls."""

import logging
import random
import tempfile
import threading
from datetime import timedelta
from functools import partial
from pathlib import Path

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.sdf_utils import (
    RestrictionTrackerView,
    ThreadsafeRestrictionTracker,
    ThreadsafeWatermarkEstimator,
)
from apache_beam.testing.util import assert_that, equal_to
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_unified import Archive, ArchivedFlush, ArchiveTopic, KafkaTimestamp, ReadUnified, Start, Stop, TopicPartition
from beam_unified.archive.writer import write_flush
from beam_unified.archive_topic import _ArchiveBounded, _ArchiveUnbounded
from beam_unified.archiver.pool import ArchiverPool
from beam_unified.errors import ConfigError
from beam_unified.harness import plain_read
from beam_unified.source.discovery import Assigned
from beam_unified.testing import InMemoryLog, ManualClock
from tests.archiver_world import TP as WORLD_TP
from tests.archiver_world import World

T0 = 1_794_830_400_000


@pytest.fixture
def archive(tmp_path):
    return Archive(f"{tmp_path.as_posix()}/archive")


@pytest.fixture
def log():
    return filled(2)


def filled(partitions):
    log = InMemoryLog("pins", partitions=partitions)
    for partition in range(partitions):
        for number in range(25):
            log.append(partition, b"%d" % number, timestamp=T0 + number * 600_000)
        log.hole(partition, 3)
    return log


def archived(log, archive, expected, **options):
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
        flushes = pipeline | ArchiveTopic("pins", log.kafka, archive, stop=Stop.now(), **options)
        assert_that(flushes | beam.Map(lambda flush: (flush.partition, flush.start, flush.stop)), equal_to(expected))


@pytest.mark.rule("A2")
def test_everything_up_to_now_and_then_nothing(log, archive):
    """A2: the output are the flushes of this run; what is committed already is not done again, holes at the end are inside."""
    cut = [(0, 10), (10, 20), (20, 28)]
    archived(log, archive, [(p, start, stop) for p in (0, 1) for start, stop in cut], flush_records=10)
    archived(log, archive, [])
    log.append(1, b"later", timestamp=T0)
    archived(log, archive, [(1, 28, 29)])
    for partition in (0, 1):
        log.expire(partition, 28)
        read = ReadUnified("pins", log.kafka, archive, timestamp_fn=KafkaTimestamp(), stop=Stop.now(), output="record")
        found = [record.value for record, _ in plain_read(read, ("pins", partition))]
        assert found == [b"%d" % number for number in range(25)] + [b"later"] * partition


@pytest.mark.rule("A2")
@settings(max_examples=60, deadline=None)
@given(
    turns=st.lists(st.booleans(), max_size=60),
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    stop=st.integers(1, 28),
)
def test_one_with_a_stop_ends_beside_one_that_goes_on(turns, sizes, stop):
    """A2: whoever commits, the bounded one gives each flush below its stop once, one that reaches over it too, and ends."""
    with tempfile.TemporaryDirectory() as folder:
        log, archive = filled(1), Archive(folder)
        make = partial(ArchiveTopic, "pins", log.kafka, archive, clock=ManualClock())
        bounded = Driven(make(stop=Stop.offsets({0: stop}), flush_records=sizes[0]))
        other = Driven(make(flush_records=sizes[1]))
        for first in turns:
            (bounded if first else other).call()
        for _ in range(100):
            bounded.call()
        assert bounded.ended
        committed = [(flush.start, flush.stop) for flush in archive.connect().index(TopicPartition("pins", 0))]
        assert bounded.given == [(start, end) for start, end in committed if start < stop]
        assert bounded.given[-1][1] >= stop
        bounded.dofn.teardown()
        other.dofn.teardown()


class Driven:
    """An `ArchiveTopic` of partition 0, a call of its DoFn at a time."""

    def __init__(self, archiver):
        options = archiver._options
        self.dofn = _ArchiveUnbounded(options) if options.source.stop is None else _ArchiveBounded(options)
        self.dofn.setup()
        self._element = Assigned("pins", 0)
        self._restriction = self.dofn.initial_restriction(self._element)
        self._state = self.dofn.initial_estimator_state(self._element, self._restriction)
        self.given: list[tuple[int, int]] = []
        self.ended = False

    def call(self):
        if self.ended:
            return
        tracker = ThreadsafeRestrictionTracker(self.dofn.create_tracker(self._restriction))
        estimator = ThreadsafeWatermarkEstimator(self.dofn.create_watermark_estimator(self._state))
        view = RestrictionTrackerView(tracker)
        for output in self.dofn.process(self._element, tracker=view, estimator=estimator):
            self.given.append((output.value.start, output.value.stop))
        tracker.check_done()
        self._state, deferred = estimator.get_estimator_state(), tracker.deferred_status()
        self.ended = deferred is None
        if deferred is not None:
            self._restriction = deferred[0]


@pytest.mark.rule("A1")
def test_files_are_compressed_and_have_statistics(log, archive):
    """A1: zstd, and smallest and largest of what a plain reader asks for, so that it may pass over row groups."""
    archived(log, archive, [(0, 0, 28), (1, 0, 28)])
    paths = list(Path(archive.root).rglob("*.parquet"))
    assert len(paths) == 10  # two partitions, five hours
    for path in paths:
        group = pq.ParquetFile(path).metadata.row_group(0)
        columns = [group.column(number) for number in range(group.num_columns)]
        assert {column.compression for column in columns} == {"ZSTD"}
        ranges = {c.path_in_schema: (c.statistics.min, c.statistics.max) for c in columns if c.statistics is not None}
        table = pq.ParquetFile(path).read()
        for name in ("offset", "timestamp"):
            found = table.column(name).to_pylist()
            assert ranges[name] == (min(found), max(found))


def test_a_flush_is_due_by_its_bytes(archive, monkeypatch):
    """`flush_bytes` counts encoded row groups, and is looked at after each fetch."""
    monkeypatch.setattr("beam_unified.archiver.archiver._FETCH_RECORDS", 2)
    log, rng = InMemoryLog("pins"), random.Random(3)
    for number in range(10):
        log.append(0, rng.randbytes(5 * 1024 * 1024), timestamp=T0 + number)
    # 16 MiB are a row group: four records, of which two fetches bring two each
    archived(log, archive, [(0, 0, 4), (0, 4, 8), (0, 8, 10)], flush_bytes=10 * 1024 * 1024)
    sizes = [path.stat().st_size for path in Path(archive.root).rglob("*.parquet")]
    assert all(size > 10 * 1024 * 1024 for size in sizes)


def test_a_new_archive_begins_where_it_is_told(log, archive):
    """`start` is for partitions that are not archived yet; an archive that exists is continued."""
    archived(log, archive, [(0, 20, 28), (1, 24, 28)], start=Start.offsets({0: 20, 1: 24}))
    archived(log, archive, [], start=Start.earliest())


def test_another_isolation_level_is_refused(log, archive):
    """R4: when the pipeline is built."""
    record = log.records(0)[0]
    write_flush(archive, TopicPartition("pins", 0), [record], start=0, stop=1, isolation_level="read_uncommitted")
    with pytest.raises(ConfigError, match="read_uncommitted"):
        beam.Pipeline() | ArchiveTopic("pins", log.kafka, archive)


def test_a_stop_in_the_future_is_refused(log, archive):
    """An archiver stops at an offset; said when the pipeline is built."""
    with pytest.raises(ConfigError, match=r"2200-01-01T00:00:00.000Z, still to come"):
        ArchiveTopic("pins", log.kafka, archive, stop=Stop.at("2200-01-01T00:00:00Z"))


def test_gaps_between_commits_are_said(log, archive, caplog):
    """They are not archived again, so nobody may overlook them."""
    for start, stop in ((0, 3), (7, 9)):
        records = [record for record in log.records(0) if start <= record.offset < stop]
        write_flush(archive, TopicPartition("pins", 0), records, start=start, stop=stop)
    with caplog.at_level(logging.WARNING):
        archived(log, archive, [(0, 9, 28), (1, 0, 28)])
    assert "pins[0]: the archive has no commit of offsets 3 to 6" in caplog.text


def test_what_it_gives_has_names():
    """The coder of the output must keep them, None included."""
    flush = ArchivedFlush("pins", 0, 1, 2, None, None)
    coder = beam.coders.registry.get_coder(ArchivedFlush)
    assert coder.decode(coder.encode(flush)) == flush


@pytest.mark.rule("R8")
def test_a_call_does_not_wait_for_an_upload(monkeypatch):
    """R8: while a job runs, every step comes back at once with nothing done; then the flush is there, and the job's errors."""
    world, clock, gate = World(), ManualClock(), threading.Event()
    world.append([0] * 5)
    put_file = world.files.put_file

    def slow(local, path):
        assert gate.wait(20)
        put_file(local, path)

    monkeypatch.setattr(world.files, "put_file", slow)
    pool = ArchiverPool(clock, timedelta(minutes=10))
    with pool.lease(WORLD_TP, 0, lambda: world.archiver(records=5)) as working:
        until(lambda: working.busy and working.archiver._encoder is not None, working)
        assert [working.advance(5, 0) for _ in range(50)] == [False] * 50
        assert world.flushes() == []
        gate.set()
        until(lambda: not working.busy and bool(working.archiver.committed(0)), working)
        working.offset = 5
    assert [(flush.start, flush.stop) for flush in world.flushes()] == [(0, 5)]
    other = world.archiver()
    with pool.lease(WORLD_TP, 3, lambda: other) as again:
        assert again.archiver is other  # a runner that goes back to an older restriction gets one that looks anew
    pool.close()


def until(done, working):
    for _ in range(2_000):
        if done():
            return
        working.advance(5, 10)
    raise AssertionError("never")


def test_archivers_that_nobody_asks_for_are_closed(caplog):
    """Their partition is archived elsewhere now; what they had not committed is read there again. That is said."""
    world, clock = World(), ManualClock()
    world.append([0] * 3)
    pool = ArchiverPool(clock, timedelta(minutes=10))
    other = TopicPartition("pins", 7)
    with pool.lease(WORLD_TP, 0, world.archiver) as working:
        until(lambda: working.archiver.read_up_to == 3, working)
        encoder = working.archiver._encoder
        assert encoder is not None
    for minutes, there in ((14, True), (2, False)):
        clock.advance(minutes * 60_000)
        with pool.lease(other, 0, world.archiver):
            assert Path(encoder._folder.name).exists() == there
            assert ("pins[0]: no call for 900 s: 3 records" in caplog.text) != there
    assert caplog.text.count("no call for") == 1  # of the other one nothing was lost
    pool.close()


@pytest.mark.rule("A2")
@pytest.mark.parametrize("interval", [timedelta(seconds=1), timedelta(minutes=10)])
def test_calls_that_come_rarely_write_every_flush(interval):
    """A2: a call every five minutes: what one has read is there for the next, and is committed when it is due."""
    world = World()
    world.append([0] * 3)
    pool = ArchiverPool(world.clock, interval)
    for _ in range(8):
        with pool.lease(WORLD_TP, 0, lambda: world.archiver(records=100, age=interval)) as working:
            for _ in range(4):
                working.advance(None, 50)
        world.clock.advance(300_000)
    assert [(flush.start, flush.stop) for flush in world.flushes()] == [(0, 3)]
    pool.close()
