"""From Start and Stop to offsets, over both stores."""

import pytest

from beam_unified.positions import AtOffsets, AtTimestamp, Earliest, Latest
from beam_unified.reading.resolve import StopBefore, resolve_start, resolve_stop
from beam_unified.testing import InMemoryLog
from tests.strategies import TP


@pytest.fixture
def log():
    """Offsets 0 to 9 at 0, 100, .. 900 ms; 0 to 5 archived, 4 to 9 in Kafka."""
    log = InMemoryLog(TP.topic)
    for i in range(10):
        log.append(0, b"%d" % i, timestamp=i * 100)
    log.flush(0, 0, 6)
    log.expire(0, 4)
    return log


def start_of(log, position, *, archived=True):
    return resolve_start(position, TP, log.kafka, log.archive if archived else None)


def stop_of(log, position, *, now_ms=10_000, archived=True):
    return resolve_stop(position, TP, log.kafka, log.archive if archived else None, now_ms=now_ms)


@pytest.mark.rule("R6")
def test_earliest_is_the_first_offset_of_either_store(log):
    """The archive's where it reaches further back, else Kafka's."""
    assert start_of(log, Earliest()) == 0
    assert start_of(log, Earliest(), archived=False) == 4
    assert start_of(InMemoryLog(TP.topic), Earliest()) == 0


@pytest.mark.rule("R6")
def test_earliest_is_kafkas_where_the_archive_begins_later():
    """An archive that was set up late hides nothing."""
    log = InMemoryLog(TP.topic)
    for _ in range(4):
        log.append(0, b"", timestamp=0)
    log.flush(0, 2, 4)
    assert start_of(log, Earliest()) == 0


@pytest.mark.rule("R6")
def test_latest_is_the_end_of_the_log(log):
    """Kafka's end, or the archive's where that is further (brokers set up anew)."""
    assert start_of(log, Latest()) == 10
    log.truncate(0, 0)
    assert start_of(log, Latest()) == 6


@pytest.mark.rule("R6")
def test_latest_of_a_log_that_nobody_has_written_to_is_zero():
    """With an archive and without."""
    empty = InMemoryLog(TP.topic)
    assert [start_of(empty, Latest(), archived=archived) for archived in (True, False)] == [0, 0]


@pytest.mark.rule("R6")
@pytest.mark.parametrize(
    ("instant", "offset"), [(-5, 0), (0, 0), (50, 1), (300, 3), (301, 4), (500, 5), (501, 6), (900, 9)]
)
def test_an_instant_means_the_same_over_both_stores(log, instant, offset):
    """The first offset with a timestamp >= the instant: in the archive, in both, only in Kafka."""
    assert start_of(log, AtTimestamp(instant)) == offset
    assert stop_of(log, AtTimestamp(instant)) == offset


@pytest.mark.rule("R6")
def test_an_instant_is_found_at_the_first_offset_even_if_time_is_out_of_order():
    """By offset, not by time: a later, older record does not hide an earlier, newer one."""
    log = InMemoryLog(TP.topic)
    for timestamp in (100, 500, 200, None, 400):
        log.append(0, b"", timestamp=timestamp)
    for _ in ("in Kafka", "in the archive"):
        assert start_of(log, AtTimestamp(150)) == 1
        assert start_of(log, AtTimestamp(450)) == 1
        assert start_of(log, AtTimestamp(501)) == 5
        log.flush(0, 0, 5)
        log.expire(0, 5)


@pytest.mark.rule("R6")
def test_a_start_after_every_record_is_the_end(log):
    """Only what is still to come is read."""
    assert start_of(log, AtTimestamp(901)) == 10


@pytest.mark.rule("R6")
@pytest.mark.parametrize("now_ms", [901, 902, 2**60])
def test_a_stop_in_the_past_after_every_record_is_the_end(log, now_ms):
    """The end offset at that moment: the pipeline ends. So with a stop at this very moment."""
    assert stop_of(log, AtTimestamp(901), now_ms=now_ms) == 10


@pytest.mark.rule("R6")
def test_a_stop_in_the_future_waits_for_its_instant(log):
    """Nobody knows its offset yet."""
    assert stop_of(log, AtTimestamp(901), now_ms=900) == StopBefore(901)


@pytest.mark.rule("R6")
def test_a_stop_in_the_future_that_a_record_has_passed_already_is_an_offset(log):
    """Producers' clocks run ahead: the first such record decides, as in a second run."""
    assert stop_of(log, AtTimestamp(900), now_ms=100) == 9


def test_offsets_are_taken_as_they_are(log):
    """Whatever the stores hold: the reader says what is missing."""
    assert start_of(log, AtOffsets(((0, 77),))) == 77
    assert stop_of(log, AtOffsets(((0, 77),))) == 77


def test_a_partition_without_offset_is_a_mistake_of_the_caller(log):
    """check_covers comes first."""
    with pytest.raises(KeyError, match=r"no start offset for pins\[0\]"):
        start_of(log, AtOffsets(((1, 0),)))
    with pytest.raises(KeyError, match=r"no stop offset for pins\[0\]"):
        stop_of(log, AtOffsets(((1, 0),)))


@pytest.mark.rule("R6")
def test_an_open_transaction_is_not_part_of_the_log_yet(log):
    """Under read_committed the end is the last stable offset, and instants in the transaction are not found."""
    log.open_transaction(0, 8)
    assert start_of(log, Latest()) == 8
    assert start_of(log, AtTimestamp(800)) == 8
    assert stop_of(log, AtTimestamp(800), now_ms=100) == StopBefore(800)
