"""Late files through `ReadUnified`: the output, the counter, the log; when it looks, and when it does not."""

import itertools
import logging
from datetime import timedelta
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from beam_unified import AllResults, DeadLetter, LateFile, LateFileResults, Results
from beam_unified.errors import ArchiveUnavailableError, ConfigError
from beam_unified.event_time import KafkaTimestamp
from beam_unified.harness import BUDGETS, exhaust
from beam_unified.positions import Start, Stop
from beam_unified.source.pacing import CallBudget
from beam_unified.testing import InMemoryLog, ManualClock
from beam_unified.transforms import ReadUnified
from tests.properties.test_model import Source
from tests.strategies import TOPIC, TP, CachedListing

pytestmark = pytest.mark.rule("A4")

SKIP = {"on_gap": "skip", "gap_timeout": timedelta(0)}


class World:
    """Offsets 0 to 29 only in the archive, but for 10 to 19, which are nowhere; 30 to 39 in Kafka."""

    def __init__(self):
        self.log, self.clock = InMemoryLog(TOPIC), ManualClock(5_000_000)
        for offset in range(40):
            self.log.append(0, b"%d" % offset, timestamp=offset)
        self.records = self.log.records(0)
        for start in (0, 10, 20):
            self.log.flush(0, start, start + 10)
        self.log.expire(0, 30)
        self.late = list(self.log.archive.index(TP))[1]
        self.content = self.log.remove(0, self.late)

    def lands(self):
        self.log.restore(0, self.late, self.content)

    def lands_in_mid_read(self):
        """When the reader is behind it already."""
        self.log.when_asked(0, 25, self.lands)

    def read(self, **options):
        defaults = {"timestamp_fn": KafkaTimestamp(), "start": Start.offsets({0: 0}), "clock": self.clock, **SKIP}
        return ReadUnified(TOPIC, self.log.kafka, self.log.archive, **{**defaults, **options})

    def bounded(self, **options):
        return self.read(stop=Stop.offsets({0: 40}), **options)

    @property
    def told(self):
        return LateFile(TOPIC, 0, 10, 20, ((10, 20),), 5_000_000, "memory:pins/0/10-20")


@pytest.fixture
def world():
    return World()


def counters(result):
    return {one.key.metric.name: one.committed for one in result.metrics().query()["counters"]}


@pytest.mark.rule("B1", "B3")
def test_a_late_file_goes_to_its_output_beside_dead_letters(world):
    """With both outputs: the records, the gap, and the file that landed for it; all are counted."""
    world.lands_in_mid_read()
    pipeline = beam.Pipeline(runner=FnApiRunner())
    results = pipeline | world.bounded(dead_letters=True, late_files=True)
    assert isinstance(results, AllResults)
    read = [record.value for record in world.records if record.offset not in range(10, 20)]
    assert_that(results.records, equal_to(read), label="records")
    gap = results.dead_letters | "Gap" >> beam.Map(lambda one: (one.offset, one.stop, one.reason))
    assert_that(gap, equal_to([(10, 20, "gap")]), label="gap")
    assert_that(results.late_files, equal_to([world.told]), label="late")
    result = pipeline.run()
    result.wait_until_finish()
    counted = counters(result)
    assert (counted["late_files"], counted["gaps"], counted["dead_letters"]) == (1, 1, 1)


def test_without_the_output_it_is_logged_and_counted(world, caplog):
    """Never silent; the line names the file, the offsets and the next step."""
    world.lands_in_mid_read()
    pipeline = beam.Pipeline(runner=FnApiRunner())
    _ = pipeline | world.bounded()
    with caplog.at_level(logging.WARNING):
        result = pipeline.run()
        result.wait_until_finish()
    assert counters(result)["late_files"] == 1
    assert "memory:pins/0/10-20 landed after its offsets [10, 20) were skipped" in caplog.text
    assert "Start.offsets and Stop.offsets" in caplog.text


def test_the_shape_of_the_results(world):
    """`.records` first; with dead letters alone, as it always was."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    shapes: dict[Any, dict[str, Any]] = {
        Results: {"dead_letters": True},
        LateFileResults: {"late_files": True},
        AllResults: {"dead_letters": True, "late_files": True},
    }
    for number, (kind, options) in enumerate(shapes.items()):
        found: Any = pipeline | str(number) >> world.bounded(**options)
        assert type(found) is kind
        assert found[0] is found.records
        assert found._fields == ("records", *options)
    assert isinstance(pipeline | "plain" >> world.bounded(), beam.PCollection)


def test_it_is_refused_without_order(world):
    """A piece does not stay to look; the message says what does."""
    with pytest.raises(ConfigError, match=r"late_files and ordered=False exclude each other.*find_late_files"):
        world.bounded(late_files=True, ordered=False)
    for wrong in (-1, timedelta(seconds=-1)):
        with pytest.raises(ConfigError, match="late_file_interval must be a timedelta"):
            world.bounded(late_file_interval=wrong)


@pytest.mark.rule("R7", "T4", "B5")
def test_a_late_file_is_told_of_once_whatever_the_splits(world):
    """At every event: the claim decides who tells."""

    def reset():
        if world.late in list(world.log.archive.index(TP)):
            world.log.remove(0, world.late)
        world.lands_in_mid_read()

    for interval in (timedelta(0), timedelta(minutes=1)):
        read = world.bounded(dead_letters=True, late_files=True, late_file_interval=interval)
        report = exhaust(read, (TOPIC, 0), fractions=(0.0, 0.5), budgets=BUDGETS[1:2], reset=reset)
        assert report.late_files == (world.told,)
        assert report.splits > 50


# -- a reader that goes on for ever, call by call


class Reading:
    """An unbounded read of the world."""

    def __init__(self, world, **options):
        defaults = {"output": "record", "start": Start.offsets({0: 0}), "late_files": True, **SKIP}
        self.world = world
        self.source = Source(world.log, world.clock, CallBudget(), {**defaults, **options})
        self.residuals = self.source.assign(0, None)

    def call(self):
        """One; gives what did not go among the records."""
        (residual,) = self.residuals
        emitted, self.residuals = self.source.call(residual, None, None)
        return [one for one in emitted if isinstance(one, LateFile | DeadLetter)]

    def restart(self):
        self.source.restart()


@pytest.fixture
def reading(world):
    reading = Reading(world)
    yield reading
    reading.source.dofn.teardown()


def test_it_looks_at_intervals_and_only_for_what_was_skipped(world, reading):
    """One listing in `late_file_interval`; none any more when all has landed."""
    reading.call()
    before = world.log.asked["list"]
    assert [reading.call() for _ in range(10)] == [[]] * 10
    assert world.log.asked["list"] == before + 1
    world.clock.advance(59_000)
    world.lands()
    assert reading.call() == []
    world.clock.advance(1_000)
    (late,) = reading.call()
    assert late == world.told._replace(noticed_ms=5_060_000)
    asked = world.log.asked["list"]
    for _ in range(5):
        world.clock.advance(60_000)
        assert reading.call() == []
    assert world.log.asked["list"] == asked == before + 2


def test_a_reader_that_skipped_nothing_never_looks(world):
    """Whatever lands: what it has emitted is no late file."""
    world.lands()
    reading = Reading(world)
    reading.call()
    asked = world.log.asked["list"]
    world.log.restore(0, world.late.__class__(5, 25, 5, 24), tuple(world.records[5:25]))
    for _ in range(5):
        world.clock.advance(60_000)
        assert reading.call() == []
    assert world.log.asked["list"] == asked
    reading.source.dofn.teardown()


@pytest.mark.rule("B5")
def test_it_looks_at_once_after_a_restart(world, reading):
    """What was skipped is in the state: another worker knows it. What was told of is not told of again."""
    reading.call()
    reading.call()
    world.lands()
    reading.restart()
    assert reading.call() == [world.told]
    for _ in range(3):
        reading.restart()
        assert reading.call() == []


def test_flushes_with_other_boundaries(world, reading):
    """Only what was skipped counts, each offset once: what was read is a duplicate, in whatever file it comes again."""
    reading.call()
    kind = type(world.late)
    for start, stop in ((0, 10), (2, 8), (20, 30), (8, 13), (12, 15), (17, 22)):
        world.log.restore(0, kind(start, stop, start, stop - 1), tuple(world.records[start:stop]))
    assert [(one.start, one.stop, one.skipped) for one in reading.call()] == [
        (8, 13, ((10, 13),)),
        (12, 15, ((13, 15),)),
        (17, 22, ((17, 20),)),
    ]
    world.lands()
    world.clock.advance(60_000)
    assert [(one.start, one.stop, one.skipped) for one in reading.call()] == [(10, 20, ((15, 17),))]


def test_an_archive_that_is_away_stops_nobody_who_does_not_need_it(world, reading, monkeypatch, caplog):
    """The reader is in Kafka; it says so, goes on, and looks again."""
    reading.call()
    world.lands()
    answers, plain = itertools.count(), CachedListing.index

    def index(self: Any, tp, *, refresh=False):
        if next(answers) == 0:
            raise ArchiveUnavailableError("memory: gone fishing")
        return plain(self, tp, refresh=refresh)

    monkeypatch.setattr(CachedListing, "index", index)
    with caplog.at_level(logging.WARNING):
        assert reading.call() == []
    assert "could not look for late files, will try again: memory: gone fishing" in caplog.text
    world.clock.advance(60_000)
    assert [one.skipped for one in reading.call()] == [((10, 20),)]
