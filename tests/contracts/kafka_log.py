"""What every Kafka half must do: the one in memory, and a client over a real broker.

    class TestMyKafka(KafkaLogContract):
        @pytest.fixture
        def world(self):
            ...  # a KafkaWorld with a topic of its own

Only what a real broker can be made to do is asked of a world, and only what a client can know of the log: it may need
several fetches to answer, so the suite fetches until it does, for at most `PATIENCE_S`.
"""

import time
from typing import Protocol

import pytest

from beam_unified.errors import UnknownTopicError
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.records import Headers, Record, Store, TimestampType
from beam_unified.stores import Fetched, KafkaLog, KafkaSource, OutOfRange
from tests.contracts.batches import checked

PATIENCE_S = 30.0
T0 = 1_794_830_400_000
"""A time of today's order of magnitude: a broker deletes what is older than its retention."""


class KafkaWorld(Protocol):
    """A topic with two empty partitions, that the test fills and empties.

    `topic` has `message.timestamp.type=CreateTime` and no time-based retention. Every method returns when its effect can
    be read.
    """

    topic: str

    @property
    def source(self) -> KafkaSource:
        """The description under test, read_committed."""
        ...

    def append(
        self,
        value: bytes | None,
        *,
        key: bytes | None = None,
        headers: Headers = (),
        timestamp: int,
        partition: int = 0,
    ) -> int:
        """Produces one record outside of any transaction; gives its offset."""
        ...

    def hole(self, partition: int = 0) -> None:
        """Takes offsets that no reader sees: an aborted transaction."""
        ...

    def begin_transaction(self, value: bytes, *, timestamp: int) -> int:
        """Produces one record to partition 0 in a transaction that stays open; gives its offset."""
        ...

    def commit_transaction(self) -> None:
        """Commits the open transaction."""
        ...

    def expire(self, log_start: int, partition: int = 0) -> None:
        """Deletes every record below an offset (`delete_records`)."""
        ...

    def add_partition(self) -> None:
        """Gives the topic a third partition."""
        ...


class KafkaLogContract:
    """The rules. Give the fixture `world`."""

    @pytest.fixture
    def world(self) -> KafkaWorld:
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
    def test_a_record_comes_back_as_it_was_produced(self, world, log, tp):
        """Key, value, headers, offset and timestamp: the bytes of Kafka. Empty is not none; header names may repeat."""
        headers = (("a", b"1"), ("a", b"\x00\xff"), ("b", None), ("ü", b""))
        world.append(b"v", key=b"k", headers=headers, timestamp=T0)
        world.append(b"", key=b"", timestamp=T0 + 1)
        world.append(None, timestamp=T0 - 10**9)
        created = TimestampType.CREATE_TIME
        assert read(log, tp, 0)[0] == [
            Record(b"k", b"v", headers, tp.topic, 0, 0, T0, created, "kafka"),
            Record(b"", b"", (), tp.topic, 0, 1, T0 + 1, created, "kafka"),
            Record(None, None, (), tp.topic, 0, 2, T0 - 10**9, created, "kafka"),
        ]

    @pytest.mark.rule("R1")
    def test_tombstones_are_records(self, world, log, tp):
        """Nothing but keys: they are read, counted, and have a size that is not negative."""
        for i in range(5):
            world.append(None, key=b"k%d" % i, timestamp=T0)
        found, position = read(log, tp, 0)
        assert [(record.key, record.value) for record in found] == [(b"k%d" % i, None) for i in range(5)]
        assert position == 5

    @pytest.mark.rule("R1")
    @pytest.mark.parametrize("max_records", [1, 3, 1_000])
    def test_all_records_come_once_in_order_whatever_the_batches(self, world, log, tp, max_records):
        """From any offset to the end, never more than asked for at once."""
        fill(world, 10)
        for start in (0, 4, 9, 10):
            found, position = read(log, tp, start, max_records=max_records)
            assert [record.offset for record in found] == list(range(start, 10))
            assert position == 10

    @pytest.mark.rule("R8")
    def test_any_offset_may_be_asked_for_at_any_time(self, world, log, tp):
        """Positions are verified: back, forward, and the same again, on one connection."""
        fill(world, 10)
        for start in (7, 2, 2, 9, 0):
            assert [record.offset for record in read(log, tp, start)[0]] == list(range(start, 10))

    def test_partitions_are_told_apart(self, world, log, tp):
        """One connection may move from one to another and back."""
        other = TopicPartition(world.topic, 1)
        fill(world, 3)
        world.append(b"other", timestamp=T0, partition=1)
        for _ in range(2):
            assert [record.partition for record in read(log, tp, 0)[0]] == [0, 0, 0]
            assert [(r.partition, r.value) for r in read(log, other, 0)[0]] == [(1, b"other")]

    def test_new_records_are_found(self, world, log, tp):
        """A reader at the end goes on when there is more."""
        fill(world, 2)
        assert read(log, tp, 0)[1] == 2
        world.append(b"new", timestamp=T0)
        assert [record.value for record in read(log, tp, 2)[0]] == [b"new"]

    # -- the end

    @pytest.mark.rule("T2")
    def test_the_end_is_made_sure_of(self, world, log, tp):
        """at_end: position == high watermark, nothing there, and the broker said so. Never together with records."""
        fill(world, 2)
        fetched = until_end(log, tp, 2)
        assert (fetched.batch, fetched.next_offset, fetched.high_watermark) == (None, 2, 2)

    @pytest.mark.rule("T2")
    def test_an_empty_partition_is_at_its_end(self, log, tp):
        """A partition that never held a record must not pin the pipeline."""
        assert until_end(log, tp, 0).next_offset == 0

    @pytest.mark.rule("T2")
    def test_an_open_transaction_is_not_the_end(self, world, log, tp):
        """Read up to the last stable offset; the high watermark is ahead, so nobody may call it idle."""
        fill(world, 2)
        assert world.begin_transaction(b"open", timestamp=T0) == 2
        found, position = read(log, tp, 0, until=2)
        assert ([record.offset for record in found], position) == ([0, 1], 2)
        for _ in range(5):
            fetched = fetch(log, tp, 2)
            assert (fetched.batch, fetched.next_offset, fetched.at_end) == (None, 2, False)
        world.commit_transaction()
        assert [record.value for record in read(log, tp, 2)[0]] == [b"open"]

    # -- holes

    @pytest.mark.rule("R4")
    def test_a_hole_between_records_is_no_gap(self, world, log, tp):
        """Aborted records are not seen, and what follows is."""
        fill(world, 2)
        world.hole()
        last = world.append(b"after", timestamp=T0)
        assert last > 2
        found, position = read(log, tp, 0)
        assert [record.offset for record in found] == [0, 1, last]
        assert position == last + 1

    @pytest.mark.rule("R4")
    def test_the_position_passes_a_hole_at_the_end(self, world, log, tp):
        """The next offset is the position after the fetch, not last + 1: a stop in or after the hole is reached."""
        fill(world, 2)
        world.hole()
        end = log.bounds(tp).stop
        assert end > 2
        assert read(log, tp, 0)[1] == end
        found, position = read(log, tp, 2)
        assert (found, position) == ([], end)

    # -- bounds and retention

    @pytest.mark.rule("R6")
    def test_bounds_are_what_is_held_and_readable(self, world, log, tp):
        """From the log start to the last stable offset."""
        assert log.bounds(tp) == OffsetRange(0, 0)
        fill(world, 4)
        assert log.bounds(tp) == OffsetRange(0, 4)
        world.expire(2)
        assert log.bounds(tp) == OffsetRange(2, 4)
        world.begin_transaction(b"open", timestamp=T0)
        assert log.bounds(tp) == OffsetRange(2, 4)
        world.commit_transaction()
        assert log.bounds(tp).stop > 4

    @pytest.mark.rule("R2")
    def test_an_offset_below_the_log_is_an_answer_not_a_jump(self, world, log, tp):
        """Retention passed: the reader is told what is held, and decides. No record is skipped silently."""
        fill(world, 5)
        world.expire(3)
        for offset in (0, 2):
            assert out_of_range(log, tp, offset) == OutOfRange(held=OffsetRange(3, 5))
        assert [record.offset for record in read(log, tp, 3)[0]] == [3, 4]

    @pytest.mark.rule("R2")
    def test_retention_that_passes_a_reader_is_an_answer_too(self, world, log, tp):
        """In mid-read, with a connection that has been there before. What it had already fetched it may still give."""
        fill(world, 5)
        assert [record.offset for record in read(log, tp, 0, max_records=1, until=1)[0]] == [0]
        world.expire(5)
        assert out_of_range(log, tp, 0) == OutOfRange(held=OffsetRange(5, 5))

    @pytest.mark.rule("R2")
    def test_an_offset_above_the_log_is_an_answer_not_a_jump(self, world, log, tp):
        """The log was cut or created anew; the end itself is no error, the next record will be there."""
        fill(world, 5)
        assert out_of_range(log, tp, 105) == OutOfRange(held=OffsetRange(0, 5))
        assert until_end(log, tp, 5).next_offset == 5

    # -- time

    @pytest.mark.rule("R6")
    def test_an_instant_is_the_first_offset_at_or_after_it(self, world, log, tp):
        """By offset: a later record that is older changes nothing. None where no record is that late."""
        assert log.offset_at(tp, T0) is None
        for seconds in (10, 50, 20, 40):
            world.append(b"", timestamp=T0 + seconds * 1_000)
        asked = {0: 0, 10_000: 0, 10_001: 1, 30_000: 1, 50_000: 1, 50_001: None}
        assert {after: log.offset_at(tp, T0 + after) for after in asked} == asked

    @pytest.mark.rule("R6")
    @pytest.mark.parametrize("instant", [0, -1, -2, -(10**12)])
    def test_instants_at_or_before_1970_come_before_every_record(self, world, log, tp, instant):
        """Also -1 and -2, which mean "latest" and "earliest" to a broker."""
        fill(world, 2)
        assert log.offset_at(tp, instant) == 0

    @pytest.mark.rule("R6")
    def test_an_instant_is_looked_up_in_what_is_held(self, world, log, tp):
        """What retention took is the archive's business."""
        fill(world, 4)
        world.expire(2)
        assert log.offset_at(tp, T0) == 2

    # -- names

    def test_partitions_are_listed_in_order(self, world, log):
        """All of them, ascending."""
        assert log.partitions(world.topic) == (0, 1)

    @pytest.mark.rule("R10")
    def test_an_added_partition_is_found_and_read(self, world, log):
        """By whoever connects after it; its records, too."""
        assert log.partitions(world.topic) == (0, 1)
        world.add_partition()
        world.append(b"new", timestamp=T0, partition=2)
        later = world.source.connect()
        assert later.partitions(world.topic) == (0, 1, 2)
        tp = TopicPartition(world.topic, 2)
        assert later.bounds(tp) == OffsetRange(0, 1)
        assert [record.value for record in read(later, tp, 0)[0]] == [b"new"]
        later.close()

    @pytest.mark.rule("R10")
    def test_topics_are_listed_sorted_without_kafkas_own(self, world, log):
        """What a pattern is matched against."""
        found = log.topics()
        assert world.topic in found
        assert list(found) == sorted(found)
        assert [topic for topic in found if topic.startswith("__")] == []

    @pytest.mark.rule("R2", "R10")
    def test_a_topic_keeps_its_id(self, world, log, tp):
        """KIP-516: the same for every connection, whatever is written; known once the topic was asked about."""
        log.bounds(tp)
        found = log.topic_id(world.topic)
        assert found
        fill(world, 1)
        later = world.source.connect()
        later.bounds(tp)
        assert later.topic_id(world.topic) == found
        later.close()

    @pytest.mark.rule("R2", "R10")
    def test_the_id_is_known_with_the_first_records(self, world, tp):
        """Nothing is read before it can be told which topic it is of; of each connection, for it may be a matter of luck."""
        fill(world, 1)
        for _ in range(8):
            later = world.source.connect()
            first = next(fetched for _ in _patience() if (fetched := fetch(later, tp, 0)).batch is not None)
            assert first.next_offset == 1
            assert later.topic_id(world.topic) is not None
            later.close()

    @pytest.mark.rule("R2")
    def test_records_come_with_the_epoch_of_their_leader(self, world, log, tp):
        """KIP-320: it is kept with the position, and taken back by a fetch: a log that was not truncated serves it."""
        fill(world, 3)
        first = next(fetched for _ in _patience() if (fetched := fetch(log, tp, 0)).batch is not None)
        assert first.leader_epoch is not None
        world.append(b"more", timestamp=T0)
        later = world.source.connect()
        for _ in _patience():
            fetched = later.fetch(tp, 3, max_records=10, timeout_ms=200, leader_epoch=first.leader_epoch)
            assert isinstance(fetched, Fetched)
            if fetched.batch is not None:
                break
        assert fetched.next_offset == 4
        later.close()

    @pytest.mark.rule("B2")
    def test_an_unknown_topic_is_named(self, world, log):
        """And not created by asking."""
        for _ in range(2):
            with pytest.raises(UnknownTopicError, match=f"{world.topic}-missing"):
                log.partitions(f"{world.topic}-missing")

    @pytest.mark.rule("R4")
    def test_the_isolation_level_is_that_of_the_description(self, world):
        """It is compared with the archive's."""
        assert world.source.isolation_level == "read_committed"


def fill(world: KafkaWorld, count: int) -> None:
    """Records b"0", b"1", .. one second apart, from T0 on."""
    for i in range(count):
        assert world.append(b"%d" % i, timestamp=T0 + i * 1_000) == i


def fetch(log: KafkaLog, tp: TopicPartition, offset: int, max_records: int = 100) -> Fetched:
    """One fetch that is in range."""
    fetched = log.fetch(tp, offset, max_records=max_records, timeout_ms=200)
    assert isinstance(fetched, Fetched), fetched
    assert fetched.next_offset >= offset
    if fetched.batch is None:
        return fetched
    assert not fetched.at_end
    found = checked(fetched.batch, Store.KAFKA)
    assert offset <= found[0].offset
    assert found[-1].offset < fetched.next_offset
    assert len(found) <= max_records
    return fetched


def read(
    log: KafkaLog, tp: TopicPartition, offset: int, *, max_records: int = 100, until: int | None = None
) -> tuple[list[Record], int]:
    """Records from an offset to the end (or to the position `until`), and the position after them."""
    found: list[Record] = []
    for _ in _patience():
        fetched = fetch(log, tp, offset, max_records)
        found += [] if fetched.batch is None else fetched.batch.records()
        offset = fetched.next_offset
        if fetched.at_end if until is None else offset >= until:
            return found, offset
    raise AssertionError(f"{tp}: no end after {PATIENCE_S} s, position {offset}")


def until_end(log: KafkaLog, tp: TopicPartition, offset: int) -> Fetched:
    """Fetches at an offset until the end is made sure of; every fetch before it must be empty too."""
    for _ in _patience():
        fetched = fetch(log, tp, offset)
        assert fetched.batch is None
        if fetched.at_end:
            return fetched
    raise AssertionError(f"{tp}: offset {offset} was not called the end within {PATIENCE_S} s")


def out_of_range(log: KafkaLog, tp: TopicPartition, offset: int) -> OutOfRange:
    """Fetches until the broker says that the offset is out of range; nothing may come before it does."""
    for _ in _patience():
        fetched = log.fetch(tp, offset, max_records=100, timeout_ms=200)
        if isinstance(fetched, OutOfRange):
            return fetched
        assert (fetched.batch, fetched.next_offset, fetched.at_end) == (None, offset, False)
    raise AssertionError(f"{tp}: offset {offset} was not called out of range within {PATIENCE_S} s")


def _patience():
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        yield
