"""ReadUnified end to end, on FnApiRunner over the log in memory."""

import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows
from apache_beam.utils.timestamp import MIN_TIMESTAMP

from beam_unified.errors import BadRecordError, DataLossError
from beam_unified.event_time import JsonField, KafkaTimestamp
from beam_unified.positions import Start, Stop
from beam_unified.source import pool as pools
from beam_unified.source.options import ReadProgress
from beam_unified.testing import InMemoryLog, InMemoryTopics, ManualClock
from beam_unified.transforms import ReadUnified
from tests.strategies import TP, without_store

SEEN: list[Any] = []
"""What the functions below saw: DoFns travel pickled, a module does not."""


@pytest.fixture(autouse=True)
def _nothing_seen_nothing_left():
    """Every test starts with an empty list and leaves no reader behind."""
    SEEN.clear()
    yield
    assert not pools.POOLS.in_use()


def see(element, timestamp=beam.DoFn.TimestampParam):
    SEEN.append((element, timestamp.micros))
    return element


def note(progress):
    SEEN.append(progress)


def read(log, **options):
    return ReadUnified(log.topic, log.kafka, log.archive, **{"timestamp_fn": KafkaTimestamp(), **options})


def run(log, **options):
    """Reads records to the end; gives (record, event time in microseconds), as they came out of the source."""
    SEEN.clear()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | read(log, output="record", **options) | beam.Map(see)
    return list(SEEN)


def by_partition(seen):
    found = defaultdict(list)
    for record, _ in seen:
        found[record.partition].append(record)
    return found


def filled(partitions=1, count=30):
    """Partitions in which everything can happen: archived, in both, only in Kafka, with a hole."""
    log = InMemoryLog("pins", partitions=partitions)
    for partition in range(partitions):
        for i in range(count):
            log.append(partition, b"%d-%d" % (partition, i), timestamp=i * 1_000, key=b"k%d" % (i % 3))
            if i % 10 == 5:
                log.hole(partition, 2)
        log.flush(partition, 0, 12)
        log.flush(partition, 9, 20)
        log.expire(partition, 16)
    return log


@pytest.mark.rule("R1")
@pytest.mark.parametrize("prefer", ["archive", "kafka"])
def test_archive_then_kafka_every_record_once_in_order(prefer):
    """Three partitions, overlapping flushes, holes, retention: exactly what either store ever held, in offset order."""
    log = filled(partitions=3)
    found = by_partition(run(log, prefer=prefer, stop=Stop.offsets({0: 36, 1: 36, 2: 36})))
    for partition in range(3):
        assert list(without_store(found[partition])) == list(without_store(log.records(partition)))
        stores = [record.store for record in found[partition]]
        assert stores == sorted(stores)
        assert Counter(stores)["archive"] >= 12
    assert len(found) == 3


@pytest.mark.rule("R6")
def test_start_and_stop_by_instant_over_both_stores():
    """From a start in the archive to a stop in Kafka, the stop not included; every partition at its own offset."""
    log = filled(partitions=2)
    log.append(1, b"before the stop", timestamp=24_999)
    found = run(log, start=Start.at("1970-01-01T00:00:03Z"), stop=Stop.at("1970-01-01T00:00:25Z"))
    for records in by_partition(found).values():
        assert [record.timestamp for record in records] == [i * 1_000 for i in range(3, 25)]
    assert {record.partition for record, _ in found} == {0, 1}


@pytest.mark.rule("R6")
def test_a_stop_in_the_future_ends_with_the_clock_or_with_a_record():
    """One partition meets a record of that instant, one the clock, one never held a record."""
    log, clock, stop_ms = InMemoryLog("pins", partitions=3), ManualClock(1_000_000), 1_500_000
    for partition in range(2):
        log.append(partition, b"early", timestamp=stop_ms - 1_000)
    log.append(1, b"at that instant", timestamp=stop_ms)
    log.append(1, b"older, but after it", timestamp=stop_ms - 1_000)

    def came_while_waiting():
        log.append(0, b"came while waiting", timestamp=stop_ms - 1)

    log.when_asked(0, 1, came_while_waiting)
    log.when_asked(0, 2, clock.advance, 600_000)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        values = pipeline | read(log, stop=Stop.at("1970-01-01T00:25:00Z"), clock=clock)
        assert_that(values, equal_to([b"early", b"early", b"came while waiting"]))
    assert clock.now_ms() > stop_ms


@pytest.mark.rule("R6")
def test_a_silent_broker_does_not_end_a_read_whose_time_is_up():
    """The clock is past the stop, but nobody knows what the broker still has: it is asked again."""
    log, clock = InMemoryLog("pins"), ManualClock(1_000_000)
    log.append(0, b"a", timestamp=1_400_000)
    log.when_asked(0, 1, clock.advance, 600_000)
    log.when_asked(0, 1, log.append, 0, b"b")
    log.when_asked(0, 1, log.stall, 0, 3)
    assert [record.value for record, _ in run(log, **_to_the_stop(clock))] == [b"a", b"b"]


def _to_the_stop(clock):
    """Reads to an instant to come, whatever times the records have."""
    return {"stop": Stop.at("1970-01-01T00:25:00Z"), "clock": clock, "timestamp_fn": lambda _: MIN_TIMESTAMP}


@pytest.mark.rule("R6")
def test_a_stop_before_the_start_of_a_partition_reads_nothing_of_it():
    """By instant that is known only when a partition is looked at; it is an empty range, not an error."""
    log = filled(partitions=2)
    start = Start.offsets({0: 30, 1: 0})
    found = by_partition(run(log, start=start, stop=Stop.at("1970-01-01T00:00:05Z")))
    assert {partition: len(records) for partition, records in found.items()} == {1: 5}


@pytest.mark.rule("T2")
@pytest.mark.parametrize("silent", ["stalled", "open transaction"])
def test_only_the_end_of_a_partition_is_idle(silent):
    """A dead broker or an open transaction says nothing: with the clock years ahead, what comes after is not late."""
    log, clock = InMemoryLog("pins"), ManualClock(10**12)
    log.append(0, b"a", timestamp=5_000)
    if silent == "stalled":
        log.stall(0, 3)
    else:
        log.open_transaction(0, 0)
        for _ in range(3):
            log.when_asked(0, 0, clock.advance, 1)
        log.when_asked(0, 0, log.when_asked, 0, 0, log.open_transaction, 0, None)
    run(log, stop=Stop.offsets({0: 1}), clock=clock, on_idle="advance", idle_timeout=timedelta(0), on_progress=note)
    assert [step.watermark for step in SEEN if isinstance(step, ReadProgress)] == [None]


@pytest.mark.rule("T2")
def test_an_idle_partition_lets_the_watermark_follow_the_clock():
    """At the end, made sure of, for idle_timeout: the next record comes out under a watermark of now."""
    log, clock = InMemoryLog("pins"), ManualClock(60_000)

    def then():
        clock.advance(10_000)
        log.when_asked(0, 0, log.append, 0, b"a")

    log.when_asked(0, 0, then)
    options = {"stop": Stop.offsets({0: 1}), "timestamp_fn": lambda _: MIN_TIMESTAMP, "on_progress": note}
    run(
        log,
        clock=clock,
        on_idle="advance",
        idle_timeout=timedelta(0),
        max_out_of_orderness=timedelta(seconds=1),
        **options,
    )
    assert [step.watermark for step in SEEN if isinstance(step, ReadProgress)] == [59_000_000]


@pytest.mark.rule("R9")
def test_two_runs_give_identical_records_and_timestamps():
    """Although by the second run retention has passed and everything comes from the archive."""
    log = filled(partitions=2)
    stop = Stop.at("1970-01-01T00:00:25Z")
    first = run(log, stop=stop)
    for partition in range(2):
        log.flush(partition, 20)
        log.expire(partition, 36)
    second = run(log, stop=stop)
    assert {record.store for record, _ in second} == {"archive"}
    assert {record.store for record, _ in first} == {"archive", "kafka"}

    def comparable(seen):
        return sorted((*record._replace(store=""), time) for record, time in seen)

    assert comparable(first) == comparable(second)


@pytest.mark.rule("R9")
def test_an_empty_range_and_an_empty_partition_end():
    """Nothing to read is no reason to wait."""
    log = InMemoryLog("pins", partitions=2)
    log.append(0, b"a", timestamp=1)
    assert run(log, start=Start.offsets({0: 1, 1: 0}), stop=Stop.offsets({0: 1, 1: 0})) == []
    assert [record.value for record, _ in run(log, stop=Stop.now())] == [b"a"]


@pytest.mark.rule("R4")
@pytest.mark.parametrize("archived", [True, False])
def test_a_hole_at_the_stop_ends_the_pipeline(archived):
    """Offset stop - 1 does not exist: only the position can tell."""
    log = InMemoryLog("pins")
    log.append(0, b"a", timestamp=1)
    log.hole(0, 5)
    if archived:
        log.flush(0)
        log.expire(0, 6)
    for stop in (4, 6):
        assert [record.value for record, _ in run(log, stop=Stop.offsets({0: stop}))] == [b"a"]


@pytest.mark.rule("R2")
def test_retention_that_passes_and_files_that_land_in_mid_read():
    """Back to the archive and forward again, inside of one pipeline."""
    log = InMemoryLog("pins")
    for i in range(5_000):
        log.append(0, b"%d" % i, timestamp=i)
    late = log.flush(0, 1_000, 4_500)
    held = log.remove(0, late)
    log.when_asked(0, 1_024, log.expire, 0, 4_500)
    log.when_asked(0, 1_025, log.restore, 0, late, held)
    log.when_asked(0, 1_024, log.restore, 0, late, held)
    found = run(log, prefer="kafka", stop=Stop.offsets({0: 5_000}))
    assert [record.offset for record, _ in found] == list(range(5_000))
    stores = [record.store for record, _ in found]
    assert stores[0] == stores[-1] == "kafka"
    assert "archive" in stores


@pytest.mark.rule("T4")
def test_windows_are_complete_with_events_out_of_order():
    """Event time at most 5 s out of order, over many calls and both stores: every window counts all of its records."""
    log = InMemoryLog("pins", partitions=2)
    times = [(i * 1_000 + (i * 7_919) % 5_000) for i in range(300)]

    def grow(partition, start):
        """Five more records, and Kafka answers nothing once: the call ends, the watermark moves."""
        for at in times[start : start + 5]:
            log.append(partition, b'{"at": %d}' % at, timestamp=0)
        log.stall(partition, 1)

    for partition in range(2):
        grow(partition, 0)
        for start in range(5, 300, 5):
            log.when_asked(partition, start, grow, partition, start)
        log.flush(partition, 0, 5)
    model = Counter(at // 10_000 for at in times)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        counts = (
            pipeline
            | read(
                log,
                timestamp_fn=JsonField("at", unit="ms"),
                max_out_of_orderness=timedelta(seconds=5),
                stop=Stop.offsets({0: 300, 1: 300}),
                on_progress=note,
            )
            | beam.Map(lambda _: 1)
            | beam.WindowInto(FixedWindows(10))
            | beam.CombineGlobally(sum).without_defaults()
            | beam.Map(lambda count, window=beam.DoFn.WindowParam: (int(window.start) // 10, count))
        )
        assert_that(counts, equal_to([(window, 2 * count) for window, count in model.items()]))
    for partition in range(2):
        _watermark_is_right([p for p in SEEN if p.partition == partition], times)


def _watermark_is_right(progress, times):
    """T1 and T4, batch by batch: it moved, never back, and nothing that came was below it."""
    reported = [p.watermark for p in progress]
    assert len({at for at in reported if at is not None}) > 20
    last, start = None, 0
    for step in progress:
        assert last is None or step.watermark >= last
        last = step.watermark
        assert all(last is None or at * 1_000 >= last for at in times[start : step.next_offset])
        start = step.next_offset


def test_values_are_the_values_of_the_records():
    """output="value" is the fast way to the same."""
    log = filled()
    stop = Stop.offsets({0: 36})
    records = [record.value for record, _ in run(log, stop=stop)]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        assert_that(pipeline | read(log, stop=stop), equal_to(records))


def user_time(record):
    """An hour after Kafka's."""
    return datetime.fromtimestamp(record.timestamp / 1_000 + 3_600, tz=UTC)


@pytest.mark.rule("T1")
def test_event_time_is_what_the_users_function_says():
    """A plain function, a lambda that gives Beam's Timestamp, a field of the value."""
    log = InMemoryLog("pins")
    log.append(0, b'{"t": 7.25}', timestamp=5_000)
    stop = Stop.offsets({0: 1})
    assert run(log, stop=stop)[0][1] == 5_000_000
    assert run(log, stop=stop, timestamp_fn=user_time)[0][1] == 3_605_000_000
    assert run(log, stop=stop, timestamp_fn=JsonField("t", unit="s"))[0][1] == 7_250_000
    assert run(log, stop=stop, timestamp_fn=lambda _: MIN_TIMESTAMP)[0][1] == MIN_TIMESTAMP.micros


@pytest.mark.rule("B1")
@pytest.mark.parametrize(
    ("timestamp_fn", "reason"),
    [(KafkaTimestamp(), "has no Kafka timestamp"), (JsonField("t", unit="ms"), "no usable JSON field 't'")],
)
def test_a_record_without_event_time_fails_the_pipeline_and_is_named(timestamp_fn, reason):
    """Topic, partition, offset, store, why, and what to do: never a made-up time, never a record left out."""
    log = InMemoryLog("pins", partitions=2)
    log.append(1, b'{"t": 1}', timestamp=1)
    log.append(1, b"{}", timestamp=None)
    with pytest.raises(BadRecordError, match=rf"pins\[1\] offset 1 \(from kafka\) .*{reason}.*timestamp_fn"):
        run(log, timestamp_fn=timestamp_fn, stop=Stop.offsets({0: 0, 1: 2}))
    _tear_down_what_failed()


@pytest.mark.rule("R5")
def test_a_gap_fails_the_pipeline_and_is_named():
    """Never silent."""
    log = filled()
    log.remove(0, next(iter(log.archive.index(TP))))
    with pytest.raises(DataLossError, match=r"pins\[0\]: offsets 0 to 8 are in neither store"):
        run(log, gap_timeout=timedelta(0), start=Start.offsets({0: 0}), stop=Stop.offsets({0: 36}))
    _tear_down_what_failed()


def _tear_down_what_failed():
    """FnApiRunner does not tear down the DoFns of a bundle that failed."""
    for key in pools.POOLS.in_use():
        pools.POOLS.release(key)


@pytest.mark.rule("B3")
def test_what_was_read_where_is_counted():
    """Records per store, and handoffs between them."""
    log = filled(partitions=2)
    pipeline = beam.Pipeline(runner=FnApiRunner())
    pipeline | read(log, stop=Stop.offsets({0: 36, 1: 36}))
    result = pipeline.run()
    result.wait_until_finish()
    counted = {c.key.metric.name: c.committed for c in result.metrics().query()["counters"] if c.key.metric.namespace}
    archived = 2 * len([r for r in log.records(0) if r.offset < 20])
    assert counted["records_from_archive"] == archived
    assert counted["records_from_kafka"] == 60 - archived
    assert counted["handoffs_to_kafka"] == 2


@pytest.mark.rule("T3", "B3")
def test_late_records_keep_their_time_and_are_counted():
    """T3: emitted like any other, with its own time; how many were late, and by how much at most, is a metric."""
    log = InMemoryLog("pins")
    times = [0, 10_000, 4_000, 9_500, 5_999, 20_000]  # milliseconds; the third and the fifth are more than 4 s behind
    for timestamp in times:
        log.append(0, b"x", timestamp=timestamp)
    log.flush(0, 0, 3)
    pipeline = beam.Pipeline(runner=FnApiRunner())
    options = {"max_out_of_orderness": timedelta(seconds=4), "stop": Stop.offsets({0: len(times)})}
    pipeline | read(log, output="record", **options) | beam.Map(see)
    result = pipeline.run()
    result.wait_until_finish()
    assert [micros for _, micros in SEEN] == [timestamp * 1_000 for timestamp in times]
    metrics = result.metrics().query()
    counted = {c.key.metric.name: c.committed for c in metrics["counters"]}
    late_by = next(d.committed for d in metrics["distributions"] if d.key.metric.name == "late_by_ms")
    assert counted["late_records"] == 2
    assert late_by.max == 2_000


def bad_time(record):
    """Every third record has none."""
    if record.offset % 3 == 0:
        raise ValueError("no time in it")
    return user_time(record)


@pytest.mark.rule("B1", "B3")
def test_records_without_event_time_are_dead_letters_where_asked_for():
    """B1: the pipeline goes on, no record is lost, and each bad one is there with its bytes and the reason."""
    log = filled()
    every = log.records(0)
    pipeline = beam.Pipeline(runner=FnApiRunner())
    records, letters = pipeline | read(
        log, timestamp_fn=bad_time, output="record", dead_letters=True, stop=Stop.offsets({0: 36})
    )
    good = [(r.offset, r.value) for r in every if r.offset % 3]
    assert_that(records | "Same" >> beam.Map(lambda r: (r.offset, r.value)), equal_to(good), label="good")
    bad = [(r.offset, r.offset + 1, "event time", r.value) for r in every if r.offset % 3 == 0]
    assert_that(letters | beam.Map(lambda x: (x.offset, x.stop, x.reason, x.record.value)), equal_to(bad), label="bad")
    result = pipeline.run()
    result.wait_until_finish()
    counted = {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]}
    assert counted["dead_letters"] == len(bad) > 0


@pytest.mark.rule("R5", "B3")
def test_a_gap_is_skipped_where_asked_for_and_said():
    """R5: a dead letter with its offsets, a counter, and every record that is there."""
    log = filled()
    log.remove(0, next(iter(log.archive.index(TP))))  # of which another flush has offset 9 and later ones
    pipeline = beam.Pipeline(runner=FnApiRunner())
    options = {"start": Start.offsets({0: 0}), "stop": Stop.offsets({0: 36}), "gap_timeout": timedelta(0)}
    records, letters = pipeline | read(log, output="record", on_gap="skip", dead_letters=True, **options)
    left = [r.offset for r in log.records(0) if r.offset >= 9]
    assert_that(records | "Offset" >> beam.Map(lambda r: r.offset), equal_to(left), label="left")
    assert_that(letters | beam.Map(lambda x: (x.offset, x.stop, x.reason)), equal_to([(0, 9, "gap")]), label="gap")
    result = pipeline.run()
    result.wait_until_finish()
    counted = {c.key.metric.name: c.committed for c in result.metrics().query()["counters"]}
    assert counted["gaps"] == 1


@pytest.mark.rule("R7", "R9")
def test_without_order_every_record_once():
    """R7: pieces side by side; what is in them is what an ordered read gives, with the same timestamps."""
    log = filled(partitions=2)
    stop = Stop.offsets({0: 36, 1: 36})
    in_order, in_pieces = run(log, stop=stop), run(log, stop=stop, ordered=False)
    assert Counter(map(repr, in_pieces)) == Counter(map(repr, in_order))


@pytest.mark.rule("R10")
@pytest.mark.parametrize("topic", [["pins", "views"], re.compile("pins|views")])
def test_several_topics_in_one_transform(topic):
    """By list and by pattern; each with a start of its own where that is said."""
    topics = InMemoryTopics(InMemoryLog("pins", partitions=2), InMemoryLog("views"), InMemoryLog("other"))
    for name in ("pins", "views", "other"):
        for partition in range(2 if name == "pins" else 1):
            for i in range(5):
                topics.log(name).append(partition, b"%d" % i, timestamp=i)
    start = Start.offsets({"pins": {0: 1, 1: 2}, "views": {0: 3}})
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        pipeline | ReadUnified(
            topic, topics.kafka, None, timestamp_fn=KafkaTimestamp(), output="record", start=start,
            stop=Stop.at("2000-01-01T00:00:00Z"),
        ) | beam.Map(see)  # fmt: skip
    found = Counter((record.topic, record.partition) for record, _ in SEEN)
    assert found == {("pins", 0): 4, ("pins", 1): 3, ("views", 0): 2}


def test_it_can_be_read_twice_in_one_pipeline():
    """From different starts, each with its own readers."""
    log = filled()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        both = (
            pipeline | "all" >> read(log, stop=Stop.offsets({0: 36})),
            pipeline | "rest" >> read(log, start=Start.offsets({0: 30}), stop=Stop.offsets({0: 36})),
        ) | beam.Flatten()
        records = log.records(0)
        assert_that(both, equal_to([r.value for r in records] + [r.value for r in records if r.offset >= 30]))
