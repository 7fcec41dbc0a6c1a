"""What every archive half must do: the one in memory, and layouts on real storage.

class TestMyArchive(ArchiveLogContract):
    @pytest.fixture
    def world(self):
        ...  # an ArchiveWorld with an empty archive of its own
"""

from collections.abc import Sequence
from typing import Protocol

import pytest

from beam_unified.errors import ArchiveUnavailableError, ConfigError
from beam_unified.flushes import Flush
from beam_unified.offsets import TopicPartition
from beam_unified.records import Record, Store, TimestampType
from beam_unified.stores import ArchiveLog, ArchiveSource
from tests.contracts.batches import checked

HOUR_MS = 3_600_000
T0 = 1_794_830_400_000


class ArchiveWorld(Protocol):
    """An archive that is written as read_committed, empty at first."""

    topic: str

    @property
    def source(self) -> ArchiveSource:
        """The description under test."""
        ...

    @property
    def missing(self) -> ArchiveSource:
        """A description of a place where there is no archive of the topic."""
        ...

    def write_flush(self, records: Sequence[Record], start: int, stop: int, partition: int = 0) -> None:
        """Commits the flush `[start, stop)` of a partition, with these records, sorted by offset."""
        ...


class ArchiveLogContract:
    """The rules. Give the fixture `world`."""

    @pytest.fixture
    def world(self) -> ArchiveWorld:
        """To be overridden."""
        raise NotImplementedError

    @pytest.fixture
    def log(self, world):
        """A connection; closed after the test, twice."""
        log = world.source.connect()
        yield log
        log.close()
        log.close()

    @pytest.fixture
    def tp(self, world):
        return TopicPartition(world.topic, 0)

    # -- what is there

    @pytest.mark.rule("R1")
    def test_a_record_comes_back_as_it_was_written(self, world, log, tp):
        """Every attribute, to the byte. Empty is not none; header names may repeat; a timestamp may be missing."""
        created, appended = TimestampType.CREATE_TIME, TimestampType.LOG_APPEND_TIME
        headers = (("a", b"1"), ("a", b"\x00\xff"), ("b", None), ("ü", b""))
        written = [
            Record(b"k", b"v", headers, tp.topic, 0, 5, T0, created, "archive"),
            Record(b"", b"", (), tp.topic, 0, 6, T0 + 1, appended, "archive"),
            Record(None, None, (), tp.topic, 0, 8, None, None, "archive"),
            Record(b"\x00" * 1_000, b"\xff" * 100_000, (("", b""),), tp.topic, 0, 9, -1_500, created, "archive"),
        ]
        world.write_flush(written, 5, 12)
        assert read(log, tp, only_flush(log, tp)) == written

    @pytest.mark.rule("A1")
    def test_records_come_in_offset_order_whatever_their_time(self, world, log, tp):
        """A flush spans hours; late records are stored with their own hour, and read at their own offset."""
        hours = [5, 0, 5, 4, 0, 24 * 40, 3, None, 5, 0]
        written = [record(tp, i, None if hour is None else T0 + hour * HOUR_MS + i) for i, hour in enumerate(hours)]
        world.write_flush(written, 0, 10)
        for max_records in (1, 3, 100):
            assert read(log, tp, only_flush(log, tp), max_records=max_records) == written

    @pytest.mark.rule("R1")
    @pytest.mark.parametrize("max_records", [1, 7, 10_000])
    def test_a_flush_opened_in_its_middle_begins_there(self, world, log, tp, max_records):
        """At the first record at or after the offset, be that a record, a hole, or nothing."""
        written = [record(tp, offset) for offset in range(100, 200) if offset % 10]
        world.write_flush(written, 95, 205)
        flush = only_flush(log, tp)
        for start in (95, 100, 101, 150, 151, 199, 200, 204):
            wanted = [one for one in written if one.offset >= start]
            assert read(log, tp, flush, start, max_records=max_records) == wanted

    def test_many_records_come_in_order(self, world, log, tp):
        """More than fit into one batch or row group."""
        written = [record(tp, i, T0 + (i * 7_919) % (3 * HOUR_MS)) for i in range(40_000)]
        world.write_flush(written, 0, 40_000)
        flush = only_flush(log, tp)
        assert [one.offset for one in read(log, tp, flush, max_records=8_192)] == list(range(40_000))
        assert [one.offset for one in read(log, tp, flush, 39_990)] == list(range(39_990, 40_000))

    def test_the_end_of_a_flush_stays_its_end(self, world, log, tp):
        """None again and again; a closed reader may be closed again."""
        world.write_flush([record(tp, 0)], 0, 1)
        reader = log.open(tp, only_flush(log, tp), 0)
        assert reader.read(10) is not None
        assert [reader.read(10) for _ in range(3)] == [None, None, None]
        reader.close()
        reader.close()

    def test_readers_of_one_flush_do_not_disturb_each_other(self, world, log, tp):
        """The connection is shared by the partitions of a worker."""
        world.write_flush([record(tp, offset) for offset in range(10)], 0, 10)
        flush = only_flush(log, tp)
        one, other = log.open(tp, flush, 0), log.open(tp, flush, 5)
        assert [one.read(2).offsets()[0], other.read(2).offsets()[0], one.read(2).offsets()[0]] == [0, 5, 2]
        one.close()
        assert list(other.read(2).offsets()) == [7, 8]
        other.close()

    # -- the index

    def test_an_empty_partition_has_an_empty_index(self, world, log, tp):
        """No error: the partition may be new."""
        world.write_flush([record(tp, 0)], 0, 1)
        assert list(log.index(TopicPartition(tp.topic, 7))) == []

    @pytest.mark.rule("A1")
    def test_the_index_says_range_and_times_of_each_flush(self, world, log, tp):
        """The covered range, holes included, and the smallest and largest timestamp, wherever they stand."""
        world.write_flush([record(tp, 0, T0 + 5), record(tp, 1, T0 + 1), record(tp, 2, T0 + 3)], 0, 3)
        world.write_flush([record(tp, 3, None), record(tp, 4, -7)], 3, 9)
        world.write_flush([record(tp, 9, None)], 9, 10)
        assert list(log.index(tp)) == [Flush(0, 3, T0 + 1, T0 + 5), Flush(3, 9, -7, -7), Flush(9, 10, None, None)]

    @pytest.mark.rule("R4")
    def test_a_flush_of_holes_alone_covers_its_range(self, world, log, tp):
        """Nothing but transaction markers: no record, and no gap either."""
        world.write_flush([], 4, 7)
        flush = only_flush(log, tp)
        assert (flush.start, flush.stop) == (4, 7)
        assert read(log, tp, flush) == []

    @pytest.mark.rule("R3")
    def test_a_flush_that_lands_later_is_found_with_refresh(self, world, log, tp):
        """Without it the listing may be as old as the last one, never older."""
        world.write_flush([record(tp, 0)], 0, 1)
        assert len(log.index(tp, refresh=True)) == 1
        world.write_flush([record(tp, 1)], 1, 2)
        assert len(log.index(tp)) in {1, 2}
        assert log.index(tp, refresh=True).stop == 2
        assert log.index(tp).stop == 2

    @pytest.mark.rule("R1")
    def test_overlapping_flushes_are_both_there(self, world, log, tp):
        """A retry with other boundaries: each holds what it says."""
        written = [record(tp, offset) for offset in range(10)]
        world.write_flush(written[:6], 0, 6)
        world.write_flush(written[4:], 4, 10)
        first, second = log.index(tp)
        assert read(log, tp, first) == written[:6]
        assert read(log, tp, second) == written[4:]
        assert read(log, tp, second, 6) == written[6:]

    @pytest.mark.rule("A4")
    def test_each_flush_has_a_place_of_its_own(self, world, log, tp):
        """For whoever is told of it."""
        for start in (0, 5):
            world.write_flush([record(tp, start)], start, start + 5)
        urls = [log.url(tp, flush) for flush in log.index(tp)]
        assert len(set(urls)) == 2
        assert all(tp.topic in url for url in urls)

    @pytest.mark.rule("A1")
    def test_writing_a_flush_again_changes_nothing(self, world, log, tp):
        """Names are a function of the range: whoever retries overwrites with the same."""
        written = [record(tp, offset) for offset in range(3)]
        for _ in range(2):
            world.write_flush(written, 0, 3)
        assert read(log, tp, only_flush(log, tp)) == written

    def test_partitions_are_told_apart(self, world, log, tp):
        """1 is not 11."""
        for partition in (1, 11):
            of = TopicPartition(tp.topic, partition)
            world.write_flush([record(of, partition)], partition, partition + 1, partition)
        for partition in (1, 11):
            of = TopicPartition(tp.topic, partition)
            assert read(log, of, only_flush(log, of)) == [record(of, partition)]

    # -- what cannot be served

    @pytest.mark.rule("R4")
    def test_the_isolation_level_must_be_the_archives(self, world, log, tp):
        """What is seen must not depend on the store; the message names both."""
        world.write_flush([record(tp, 0)], 0, 1)
        log.check(world.topic, isolation_level="read_committed")
        with pytest.raises(ConfigError, match=r"read_committed.*read_uncommitted"):
            world.source.connect().check(world.topic, isolation_level="read_uncommitted")

    @pytest.mark.rule("B2")
    def test_a_place_without_an_archive_of_the_topic_is_named(self, world):
        """No empty archive is made up: a typing error would read Kafka only, and nobody would know."""
        with pytest.raises(ArchiveUnavailableError, match=world.topic):
            world.missing.connect().check(world.topic, isolation_level="read_committed")


def record(tp: TopicPartition, offset: int, timestamp: int | None = T0) -> Record:
    """A record whose value says where it is."""
    kind = None if timestamp is None else TimestampType.CREATE_TIME
    return Record(None, b"%d" % offset, (), tp.topic, tp.partition, offset, timestamp, kind, "archive")


def only_flush(log: ArchiveLog, tp: TopicPartition) -> Flush:
    """The one flush there is."""
    (flush,) = log.index(tp, refresh=True)
    return flush


def read(
    log: ArchiveLog, tp: TopicPartition, flush: Flush, offset: int | None = None, *, max_records: int = 1_000
) -> list[Record]:
    """The records of a flush, from an offset on."""
    reader, found = log.open(tp, flush, flush.start if offset is None else offset), list[Record]()
    try:
        while (batch := reader.read(max_records)) is not None:
            assert len(batch) <= max_records
            found += checked(batch, Store.ARCHIVE)
    finally:
        reader.close()
    return found
