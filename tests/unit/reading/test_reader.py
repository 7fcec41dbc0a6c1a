"""One log out of two stores; tests/properties/test_reader.py reads random worlds."""

from dataclasses import replace
from datetime import timedelta

import pytest

from beam_unified.errors import DataLossError
from beam_unified.offsets import OffsetRange
from beam_unified.reading.reader import Gap, Lineage, LogReader, NothingYet, Progress, ReadOptions
from beam_unified.records import Store
from beam_unified.testing import InMemoryLog, ManualClock
from tests.strategies import TP, CachedListing


class Reading:
    """A reader of one log, and where it stands."""

    def __init__(self, log, *, prefer="archive", on_gap="fail", gap_timeout=30, archived=True, cached=False):
        self.log, self.clock, self.offset = log, ManualClock(), 0
        archive = CachedListing(log.archive) if cached else log.archive
        options = ReadOptions(prefer=prefer, on_gap=on_gap, gap_timeout=timedelta(seconds=gap_timeout))
        self.lineage = Lineage(log.kafka.topic_id(TP.topic))
        self.reader = LogReader(TP, log.kafka, archive if archived else None, options, self.clock)

    def step(self, *, stop=None, max_records=100):
        """One read."""
        found = self.reader.read(self.offset, stop=stop, max_records=max_records, timeout_ms=0, lineage=self.lineage)
        if not isinstance(found, NothingYet):
            self.offset = found.next_offset
        if isinstance(found, Progress):
            self.lineage = replace(self.lineage, leader_epoch=found.leader_epoch)
        return found

    def to_end(self, **kwargs):
        """Reads until there is nothing; gives (offset, store) of every record."""
        found = list[tuple[int, str]]()
        for _ in range(100):
            step = self.step(**kwargs)
            if isinstance(step, NothingYet):
                return found
            if isinstance(step, Progress) and step.batch is not None:
                found += [(record.offset, record.store) for record in step.batch.records()]
        raise AssertionError("no end")


def filled(count=10):
    log = InMemoryLog(TP.topic)
    for i in range(count):
        log.append(0, b"%d" % i, timestamp=i)
    return log


def stores(*runs):
    """(store, number of offsets) -> what `to_end` gives."""
    found = list[tuple[int, str]]()
    for store, count in runs:
        found += [(len(found) + i, store) for i in range(count)]
    return found


@pytest.mark.rule("R1")
def test_archive_then_kafka_by_exact_offset():
    """The handoff loses nothing and doubles nothing, although both stores hold some of it."""
    log = filled()
    log.flush(0, 0, 6)
    log.expire(0, 3)
    assert Reading(log).to_end() == stores(("archive", 6), ("kafka", 4))


@pytest.mark.rule("R2")
def test_kafka_preferred_leaves_the_archive_as_soon_as_kafka_holds_the_offset():
    """With prefer="kafka" the archive serves only what Kafka has forgotten, not even the rest of that flush."""
    log = filled()
    log.flush(0, 0, 6)
    log.expire(0, 3)
    for max_records in (1, 2, 100):
        assert Reading(log, prefer="kafka").to_end(max_records=max_records) == stores(("archive", 3), ("kafka", 7))


@pytest.mark.rule("R2")
def test_kafka_preferred_goes_on_in_the_flush_when_retention_has_passed_meanwhile():
    """What Kafka said it held is asked again, not believed."""
    log = filled()
    log.flush(0, 0, 6)
    log.expire(0, 3)
    log.when_asked(0, 3, log.expire, 0, 5)
    assert Reading(log, prefer="kafka").to_end() == stores(("archive", 5), ("kafka", 5))


@pytest.mark.rule("R2")
def test_back_to_the_archive_when_retention_passes_and_forward_again():
    """A reader whose offset falls off Kafka goes back: kafka, archive, kafka."""
    log = filled()
    log.flush(0, 0, 8)
    reading = Reading(log, prefer="kafka")
    first = reading.step(max_records=2)
    assert first.store is Store.KAFKA
    log.expire(0, 8)
    assert reading.to_end() == stores(("", 2), ("archive", 6), ("kafka", 2))[2:]


@pytest.mark.rule("R1")
def test_overlapping_flushes_are_read_once():
    """A flush opened in its middle gives what is at or above the offset."""
    log = filled()
    log.flush(0, 0, 6)
    log.flush(0, 4, 10)
    log.expire(0, 10)
    assert Reading(log).to_end() == stores(("archive", 10))
    assert Reading(log).to_end(max_records=1) == stores(("archive", 10))


class FromItsStart(CachedListing):
    """An archive whose layout cannot be entered in the middle: a flush is always read from its start."""

    def open(self, tp, flush, offset):
        del offset
        return self.archive.open(tp, flush, flush.start)


@pytest.mark.rule("R1")
def test_records_below_the_offset_are_dropped():
    """Real archives overlap, and not every layout can be entered at an offset."""
    log = filled()
    log.flush(0, 0, 6)
    log.flush(0, 4, 10)
    log.expire(0, 10)
    reading = Reading(log)
    reading.reader = LogReader(TP, log.kafka, FromItsStart(log.archive), ReadOptions(), reading.clock)
    assert reading.to_end() == stores(("archive", 10))


@pytest.mark.rule("R1")
@pytest.mark.parametrize("archived", [True, False])
def test_nothing_at_or_above_the_stop_is_given(archived):
    """Whichever store it comes from, whatever a batch holds beyond."""
    log = filled()
    if archived:
        log.flush(0)
    step = Reading(log).step(stop=4)
    assert step.batch.offsets() == [0, 1, 2, 3]
    assert step.next_offset == 4


@pytest.mark.rule("R4")
def test_a_hole_in_kafka_is_no_gap():
    """Progress goes to the position after the fetch: past markers, without a record."""
    log = filled(2)
    log.hole(0, 3)
    reading = Reading(log)
    assert reading.step().next_offset == 5
    log.hole(0, 2)
    step = reading.step()
    assert (step.batch, step.next_offset) == (None, 7)
    assert reading.step() == NothingYet(at_end=True, high_watermark=7)


@pytest.mark.rule("R4")
def test_a_hole_at_the_end_of_a_flush_is_no_gap():
    """A flush covers its range, holes included."""
    log = filled(2)
    log.hole(0, 3)
    log.flush(0)
    log.append(0, b"x")
    log.expire(0, 5)
    reading = Reading(log)
    assert reading.to_end() == [(0, "archive"), (1, "archive"), (5, "kafka")]
    assert reading.offset == 6


@pytest.mark.rule("T2")
def test_an_open_transaction_is_not_the_end():
    """The high watermark is ahead of the last stable offset: nothing yet, but not idle."""
    log = filled(3)
    log.open_transaction(0, 2)
    reading = Reading(log)
    assert reading.step().next_offset == 2
    assert reading.step() == NothingYet(at_end=False, high_watermark=3)
    log.open_transaction(0, None)
    assert reading.step().batch.offsets() == [2]


@pytest.mark.rule("T2")
def test_a_silent_broker_is_not_the_end():
    """Nobody can tell whether there is more."""
    log = filled(1)
    log.stall(0, 2)
    reading = Reading(log)
    assert [reading.step().at_end for _ in range(2)] == [False, False]
    assert reading.step().next_offset == 1


@pytest.mark.rule("R5")
def test_a_gap_is_an_error_that_names_the_range_after_the_timeout():
    """Topic, partition, first and last missing offset, and what to do; not before gap_timeout."""
    log = filled()
    log.flush(0, 0, 3)
    log.flush(0, 5, 7)
    log.expire(0, 7)
    reading = Reading(log)
    assert reading.to_end() == stores(("archive", 3))
    reading.clock.advance(29_999)
    assert reading.step() == NothingYet(at_end=False)
    reading.clock.advance(1)
    with pytest.raises(
        DataLossError, match=r"pins\[0\]: offsets 3 to 4 are in neither store.*Restore.*go on at offset 5"
    ):
        reading.step()


@pytest.mark.rule("R5")
def test_a_gap_is_an_error_at_once_without_patience():
    """gap_timeout=0 does not wait, but has looked."""
    log = filled()
    log.expire(0, 4)
    with pytest.raises(DataLossError, match=r"offsets 0 to 3 "):
        Reading(log, gap_timeout=0).step()


@pytest.mark.rule("R5")
def test_without_an_archive_what_kafka_forgot_is_a_gap():
    """Never a silent jump to Kafka's start."""
    log = filled()
    log.expire(0, 4)
    with pytest.raises(DataLossError, match=r"pins\[0\]: offsets 0 to 3"):
        Reading(log, archived=False, gap_timeout=0).step()


@pytest.mark.rule("R3")
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("prefer", ["archive", "kafka"])
def test_a_late_file_ends_a_gap(prefer, cached):
    """A flush that lands while we wait is found and read; waiting starts anew at the next gap."""
    log = filled()
    late = log.flush(0, 0, 4)
    kept = log.remove(0, late)
    log.expire(0, 4)
    reading = Reading(log, prefer=prefer, cached=cached)
    assert reading.step() == NothingYet(at_end=False)
    reading.clock.advance(29_000)
    assert reading.step() == NothingYet(at_end=False)
    log.restore(0, late, kept)
    reading.clock.advance(1_000)
    assert reading.to_end() == stores(("archive", 4), ("kafka", 6))


@pytest.mark.rule("R3")
def test_flushes_that_land_while_the_archive_is_replayed_are_found():
    """Before a reader leaves the archive it lists anew: a week's replay does not end at last week's listing."""
    log = filled()
    log.flush(0, 0, 4)
    reading = Reading(log, cached=True)
    reading.step()
    log.flush(0, 4, 8)
    reading.clock.advance(5_000)
    assert reading.to_end() == stores(("", 4), ("archive", 4), ("kafka", 2))[4:]


@pytest.mark.rule("R3")
def test_a_reader_in_front_of_a_gap_lists_about_once_a_second():
    """A hundred readers that wait must not flood the object store."""
    log = filled()
    log.expire(0, 4)
    reading = Reading(log, cached=True)
    for _ in range(100):
        reading.step()
        reading.clock.advance(100)
    assert 9 <= log.asked["list"] <= 12


@pytest.mark.rule("R3")
def test_a_reader_on_kafka_does_not_list():
    """Once it is on Kafka the archive is not asked any more."""
    log = filled()
    reading = Reading(log, cached=True)
    reading.step()
    before = log.asked["list"]
    for _ in range(50):
        log.append(0, b"x")
        reading.clock.advance(2_000)
        reading.step()
    assert log.asked["list"] == before


@pytest.mark.rule("R2")
def test_a_truncated_log_is_an_error_that_names_the_offset():
    """A log that ends below what was read was cut or created anew: reading on would mix two logs."""
    log = filled()
    reading = Reading(log)
    reading.offset = 10  # without a leader epoch: from an archive, or brokers that tell none
    log.truncate(0, 5)
    with pytest.raises(DataLossError, match=r"pins\[0\]: offset 10 is above the end.*\[0, 5\).*Start\.offsets"):
        reading.step()


@pytest.mark.rule("R2")
def test_a_log_truncated_and_filled_again_is_an_error():
    """The offset exists, in another epoch, after records that were never read: only the leader epoch tells (KIP-320)."""
    log = filled()
    reading = Reading(log)
    reading.to_end(max_records=4)
    assert reading.lineage.leader_epoch == 0
    log.truncate(0, 5)
    for i in range(20):
        log.append(0, b"other %d" % i)
    with pytest.raises(DataLossError, match=r"pins\[0\]: the log was truncated to offset 5, below offset 10"):
        reading.step()


@pytest.mark.rule("R2")
@pytest.mark.parametrize("epoch", ["known", "unknown"])
@pytest.mark.parametrize("again", [0, 5, 30])
def test_a_topic_created_anew_is_an_error(again, epoch):
    """However many records it has by now: the topic's id tells (KIP-516), before a single one of them is given.

    Where the epoch of its leader tells first that the log was cut (KIP-320), the error still says why.
    """
    log = filled()
    reading = Reading(log)
    reading.to_end()
    if epoch == "unknown":
        reading.lineage = Lineage(reading.lineage.topic_id)
    log.create_anew()
    for _ in range(again):
        log.append(0, b"other")
    with pytest.raises(DataLossError, match=r"pins\[0\]: the topic was deleted and created anew.*start a new job"):
        reading.step()


@pytest.mark.rule("R2")
@pytest.mark.parametrize("prefer", ["archive", "kafka"])
def test_an_archive_that_goes_on_where_kafka_ends_is_another_logs(prefer):
    """A cluster set up anew under an old archive: waiting there for ever would be silence about records that exist."""
    log = filled()
    log.flush(0, 0, 4)
    log.flush(0, 6, 10)
    log.create_anew()
    for _ in range(4):
        log.append(0, b"other")
    reading = Reading(log, prefer=prefer)
    reading.lineage = Lineage()
    with pytest.raises(
        DataLossError, match=r"Kafka ends at offset 4, the archive holds offsets up to 9.*another cluster"
    ):
        reading.to_end()


@pytest.mark.rule("R5")
@pytest.mark.parametrize(
    ("flushes", "log_start", "missing"),
    [
        ([(0, 3), (5, 7)], 7, (3, 5)),  # inside of the archive
        ([(0, 3)], 5, (3, 5)),  # between the stores
        ([(3, 6)], 6, (0, 3)),  # at the start
        ([], 4, (0, 4)),  # at the start, nothing archived
    ],
)
def test_a_skipped_gap_is_given_as_such_and_what_follows_is_read(flushes, log_start, missing):
    """Never silently, not before gap_timeout, and only what neither store has."""
    log = filled()
    for start, stop in flushes:
        log.flush(0, start, stop)
    log.expire(0, log_start)
    reading = Reading(log, on_gap="skip")
    before = [offset for offset, _ in reading.to_end()]
    assert before == list(range(missing[0]))
    reading.clock.advance(29_999)
    assert reading.step() == NothingYet(at_end=False)
    reading.clock.advance(1)
    assert reading.step() == Gap(offsets=OffsetRange(*missing))
    assert [offset for offset, _ in reading.to_end()] == list(range(missing[1], 10))


@pytest.mark.rule("R5")
def test_a_late_file_is_looked_for_one_last_time_before_a_gap_is_believed():
    """However short ago the last look was: what is skipped is not read any more."""
    log = filled()
    late = log.flush(0, 0, 4)
    kept = log.remove(0, late)
    log.expire(0, 4)
    reading = Reading(log, on_gap="skip", cached=True)
    reading.step()
    reading.clock.advance(29_500)
    reading.step()
    log.restore(0, late, kept)
    reading.clock.advance(500)
    assert reading.to_end() == stores(("archive", 4), ("kafka", 6))


@pytest.mark.rule("R5")
def test_a_gap_that_shrinks_while_it_is_waited_for_is_skipped_as_it_is_then():
    """Half of it lands late, the other half never."""
    log = filled()
    late = log.flush(0, 2, 4)
    kept = log.remove(0, late)
    log.expire(0, 4)
    reading = Reading(log, on_gap="skip")
    reading.step()
    log.restore(0, late, kept)
    reading.clock.advance(30_000)
    assert reading.step() == Gap(offsets=OffsetRange(0, 2))
    assert reading.to_end() == stores(("", 2), ("archive", 2), ("kafka", 6))[2:]


@pytest.mark.rule("R5")
def test_a_gap_is_skipped_up_to_the_stop_and_no_further():
    """What lies behind the stop was not asked for."""
    log = filled()
    log.expire(0, 6)
    reading = Reading(log, on_gap="skip", gap_timeout=0)
    assert reading.step(stop=4) == Gap(offsets=OffsetRange(0, 4))


@pytest.mark.rule("R5")
def test_waiting_for_ever_is_waiting_for_ever(caplog):
    """No error after any time, a word in the log about once a minute, and the late file is read."""
    log = filled()
    late = log.flush(0, 0, 4)
    kept = log.remove(0, late)
    log.expire(0, 4)
    reading = Reading(log, on_gap="wait")
    for _ in range(600):
        assert reading.step() == NothingYet(at_end=False)
        reading.clock.advance(1_000)
    assert 9 <= len([text for text in caplog.messages if "offsets [0, 4) are in neither store" in text]) <= 11
    log.restore(0, late, kept)
    assert reading.to_end() == stores(("archive", 4), ("kafka", 6))


@pytest.mark.rule("R5")
def test_patience_begins_anew_at_the_next_gap():
    """The clock of a gap does not run on in the next one."""
    log = filled()
    log.flush(0, 0, 2)
    log.flush(0, 4, 6)
    log.expire(0, 8)
    reading = Reading(log, on_gap="skip")
    reading.to_end()
    reading.clock.advance(30_000)
    assert reading.step() == Gap(offsets=OffsetRange(2, 4))
    assert [offset for offset, _ in reading.to_end()] == [4, 5]
    reading.clock.advance(29_999)
    assert reading.step() == NothingYet(at_end=False)


@pytest.mark.rule("R8")
def test_an_open_flush_is_kept_between_calls_and_opened_anew_for_another_offset():
    """Positions are verified: a call that asks for another place gets that place."""
    log = filled()
    log.flush(0)
    log.expire(0, 10)
    reading = Reading(log)
    reading.to_end(max_records=3)
    assert log.asked["open"] == 1
    reading.offset = 2
    assert reading.step(max_records=2).batch.offsets() == [2, 3]
    assert log.asked["open"] == 2


@pytest.mark.rule("R8")
def test_a_reader_on_kafka_goes_back_to_the_archive_for_an_earlier_offset_only_if_it_must():
    """An offset that Kafka holds is read there, one it forgot in the archive."""
    log = filled()
    log.flush(0, 0, 8)
    reading = Reading(log, prefer="kafka")
    reading.to_end()
    reading.offset = 2
    assert reading.step(max_records=1).store is Store.KAFKA
    log.expire(0, 8)
    reading.offset = 2
    assert reading.step(max_records=1).store is Store.ARCHIVE


def test_max_records_bounds_a_batch():
    """From either store."""
    log = filled()
    log.flush(0, 0, 5)
    reading = Reading(log)
    sizes = []
    while isinstance(step := reading.step(max_records=2), Progress):
        sizes.append(0 if step.batch is None else len(step.batch))
    assert max(sizes) == 2
    assert sum(sizes) == 10


def test_close_can_be_called_twice():
    """A lease that raised is closed where it broke, and again with the pool."""
    log = filled()
    log.flush(0)
    reading = Reading(log)
    reading.step(max_records=1)
    reading.reader.close()
    reading.reader.close()
