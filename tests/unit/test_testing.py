"""The testing kit: what tests/contracts does not cover, because only a world in memory has it."""

import pickle

import pytest

from beam_unified.errors import ConfigError, UnknownTopicError
from beam_unified.flushes import Flush
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.records import Store
from beam_unified.stores import Fetched, OutOfRange
from beam_unified.testing import InMemoryLog, ManualClock
from tests.strategies import TP


@pytest.fixture
def log():
    """Offsets 0 to 4 at 0 to 4 ms."""
    log = InMemoryLog(TP.topic)
    for i in range(5):
        log.append(0, b"%d" % i, timestamp=i)
    return log


def fetch(log, offset, max_records=10):
    return log.kafka.fetch(TP, offset, max_records=max_records, timeout_ms=0)


def test_a_clock_stands_until_it_is_moved():
    """Both faces of it move together."""
    clock = ManualClock(1_000)
    assert (clock.now_ms(), clock.monotonic()) == (1_000, 1.0)
    clock.advance(500)
    assert (clock.now_ms(), clock.monotonic()) == (1_500, 1.5)


def test_log_and_clock_pickle_by_reference(log):
    """A pipeline pickles its stores; test and worker must see one world."""
    clock = ManualClock()
    assert pickle.loads(pickle.dumps(log)) is log
    assert pickle.loads(pickle.dumps(clock)) is clock
    assert pickle.loads(pickle.dumps(log.kafka)).log is log
    assert pickle.loads(pickle.dumps(log.archive)).log is log


@pytest.mark.rule("B2")
@pytest.mark.parametrize("make", [lambda: InMemoryLog("pins"), ManualClock])
def test_a_log_in_another_process_says_so(make, monkeypatch):
    """With the runner to use instead of a bare KeyError."""
    pickled = pickle.dumps(make())
    monkeypatch.setattr("beam_unified.testing._registry", {})
    with pytest.raises(ConfigError, match=r"sent to another process.*FnApiRunner"):
        pickle.loads(pickled)


def test_records_are_those_of_both_halves_once(log):
    """What one reader of the whole log must see: archived, in both, in Kafka only."""
    log.flush(0, 0, 3)
    log.expire(0, 2)
    assert [record.offset for record in log.records(0)] == [0, 1, 2, 3, 4]


def test_a_flush_goes_from_the_archives_end_to_kafkas_by_default(log):
    """So that calling it again and again archives everything once; its times are those of its records."""
    assert log.flush(0, stop=3) == Flush(0, 3, 0, 2)
    assert log.flush(0) == Flush(3, 5, 3, 4)
    with pytest.raises(ValueError, match="at least one offset"):
        log.flush(0)


def test_a_removed_flush_can_be_restored_as_a_late_file(log):
    """What it held comes back, though Kafka has forgotten it."""
    flush = log.flush(0)
    held = log.remove(0, flush)
    assert len(log.archive.index(TP)) == 0
    log.expire(0, 5)
    assert log.records(0) == []
    log.restore(0, flush, held)
    assert [record.offset for record in log.records(0)] == [0, 1, 2, 3, 4]


def test_a_script_runs_once_just_before_the_answer(log):
    """Retention that passes between the question and the answer."""
    log.when_asked(0, 3, log.expire, 0, 4)
    assert isinstance(fetch(log, 2, max_records=1), Fetched)
    assert fetch(log, 3) == OutOfRange(held=OffsetRange(4, 5))
    log.append(0, b"5")
    assert fetch(log, 4).next_offset == 6


def test_a_script_sees_readers_of_the_archive_too(log):
    """Whichever half is asked about the offset or a later one."""
    flush = log.flush(0)
    ran = list[str]()
    log.when_asked(0, 0, ran.append, "opened")
    log.when_asked(0, 2, ran.append, "read")
    reader = log.archive.open(TP, flush, 0)
    assert ran == ["opened"]
    reader.read(2)
    assert ran == ["opened"]
    reader.read(2)
    assert ran == ["opened", "read"]


@pytest.mark.rule("T2")
def test_a_stalled_kafka_answers_nothing_and_is_not_at_its_end(log):
    """So many times; then as before."""
    log.stall(0, 2)
    for _ in range(2):
        assert fetch(log, 0) == Fetched(batch=None, next_offset=0, high_watermark=5, at_end=False)
    assert fetch(log, 0).next_offset == 5


def test_compaction_leaves_holes_in_kafka_only(log):
    """The archive keeps what it has."""
    log.flush(0)
    log.compact(0, 1, 4)
    assert fetch(log, 0).batch.offsets() == [0, 2, 3]
    assert fetch(log, 0).next_offset == 5
    assert log.archive.open(TP, Flush(0, 5, 0, 4), 0).read(10).offsets() == [0, 1, 2, 3, 4]


def test_a_topic_can_grow(log):
    """New partitions are empty."""
    assert log.add_partition() == 1
    assert log.kafka.partitions("pins") == (0, 1)
    assert log.kafka.bounds(TopicPartition("pins", 1)) == OffsetRange(0, 0)


def test_a_partition_that_does_not_exist_is_named(log):
    """With what there is."""
    with pytest.raises(UnknownTopicError, match=r"pins\[7\] does not exist: .* 1 partitions"):
        log.kafka.fetch(TopicPartition("pins", 7), 0, max_records=1, timeout_ms=0)


def test_what_is_asked_is_counted(log):
    """For tests of what is NOT asked."""
    flush = log.flush(0)
    fetch(log, 0)
    log.archive.index(TP)
    log.archive.index(TP, refresh=True)
    log.archive.open(TP, flush, 0)
    assert dict(log.asked) == {"fetch": 1, "list": 1, "open": 1}


def test_a_record_says_where_it_was_read(log):
    """And differs in nothing else."""
    flush = log.flush(0)
    archived = log.archive.open(TP, flush, 0).read(1).records()[0]
    live = fetch(log, 0).batch.records()[0]
    assert (archived.store, live.store) == (Store.ARCHIVE.value, Store.KAFKA.value)
    assert archived._replace(store="kafka") == live
