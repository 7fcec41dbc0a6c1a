"""The reading rules on a real broker and a real S3 server: back and forth, truncation, gaps, holes, broken archives.

One reader, step by step, as a worker would call it; time is moved by hand, so that patience costs none.
"""

import itertools
import os
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from confluent_kafka import Producer
from tenacity import Retrying, stop_after_delay, wait_fixed

from beam_unified import Archive, Kafka, TopicPartition
from beam_unified.archive.writer import write_flush
from beam_unified.errors import CorruptArchiveError, DataLossError
from beam_unified.reading.reader import Gap, Lineage, LogReader, NothingYet, Progress, ReadOptions
from beam_unified.stores import Fetched
from beam_unified.testing import ManualClock
from integration.services.kafka import KafkaBroker
from integration.services.process import named_run
from integration.unlimited_log import CLIENTS

T0 = 1_794_830_400_000
HOUR_MS = 3_600_000
NO_PATIENCE = timedelta(0)

by_each_client = pytest.mark.parametrize("client", CLIENTS)


class Log:
    """A topic of one partition on the broker, and its archive on S3. Values are the numbers of the records."""

    def __init__(self, broker, object_store, *, client="kafka-python", **config):
        self.broker = broker
        self.topic = broker.create_topic(
            f"rules-{uuid.uuid4().hex[:8]}", 1, {k.replace("_", "."): v for k, v in config.items()}
        )
        self.tp = TopicPartition(self.topic, 0)
        self.kafka = Kafka(broker.bootstrap_servers, client=client)
        self.archive = Archive(
            f"s3://{object_store.make_bucket('rules')}/merced",
            object_store.storage_options,
            refresh_interval=timedelta(0),
        )
        self._numbers = itertools.count()
        self._producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0})

    def append(self, count, *, step_ms=1, key=None):
        """So many records, each a batch of its own."""
        for _ in range(count):
            n = next(self._numbers)
            self._producer.produce(self.topic, b"%d" % n, key, 0, timestamp=T0 + n * step_ms)
            self._producer.flush()

    def transaction(self, count, *, commit):
        """Records that are committed, or aborted, with a marker behind them."""
        producer = Producer(
            {"bootstrap.servers": self.broker.bootstrap_servers, "transactional.id": uuid.uuid4().hex, "linger.ms": 0}
        )
        producer.init_transactions()
        producer.begin_transaction()
        for _ in range(count):
            producer.produce(self.topic, b"%d" % next(self._numbers), None, 0, timestamp=T0)
        producer.flush()
        (producer.commit_transaction if commit else producer.abort_transaction)()
        self._wait_for_marker()

    def records(self, start, stop):
        """What a consumer sees of a range."""
        log, found, offset = self.kafka.connect(), [], start
        while offset < stop:
            fetched = log.fetch(self.tp, offset, max_records=1_000, timeout_ms=500)
            assert isinstance(fetched, Fetched)
            offset = fetched.next_offset
            found += [] if fetched.batch is None else fetched.batch.between(start, stop).records()
        log.close()
        return found

    def flush(self, start, stop):
        """Archives a range that Kafka holds."""
        return write_flush(self.archive, self.tp, self.records(start, stop), start=start, stop=stop)

    def expire(self, first_kept):
        """Retention."""
        self.broker.delete_records(self.topic, {0: first_kept})

    def part(self, commit, number=0):
        """File system and path of a data file."""
        files, root = self.archive.file_system()
        return files, f"{root}/{self.topic}/{commit.parts[number].path}"

    def _wait_for_marker(self):
        """It is written after the producer has been told that the transaction has ended."""
        everything = Kafka(self.broker.bootstrap_servers, {"isolation_level": "read_uncommitted"}).connect()
        readable = self.kafka.connect()
        for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.05)):
            with attempt:
                assert readable.bounds(self.tp) == everything.bounds(self.tp)
        everything.close()
        readable.close()


class Reader:
    """Reads a log and notes what came from where."""

    def __init__(self, log, *, prefer="archive", on_gap="fail", gap_timeout=timedelta(seconds=30), archived=True):
        self.log, self._clock = log, ManualClock()
        self._options = ReadOptions(prefer=prefer, on_gap=on_gap, gap_timeout=gap_timeout)
        self._archived = archived
        self.offset, self.found, self.gaps = 0, [], []
        self._log = log.kafka.connect()
        self._log.bounds(log.tp)  # as the source does when it starts: the client knows the topic from now on
        self.lineage = Lineage(topic_id=self._log.topic_id(log.topic))
        self._begin()

    def _begin(self):
        archive = self.log.archive.connect() if self._archived else None
        self._reader = LogReader(self.log.tp, self._log, archive, self._options, self._clock)

    def resume(self):
        """As after hours of pause: other connections, the same offset and lineage."""
        self._reader.close()
        self._log = self.log.kafka.connect()
        self._begin()

    def step(self, *, stop=None, max_records=100):
        step = self._reader.read(self.offset, stop=stop, max_records=max_records, timeout_ms=100, lineage=self.lineage)
        match step:
            case Progress():
                self.found += (
                    []
                    if step.batch is None
                    else [
                        (record.offset, int(record.value or b"-1"), step.store.value) for record in step.batch.records()
                    ]
                )
                self.lineage = Lineage(self.lineage.topic_id, step.leader_epoch)
            case Gap():
                self.gaps.append((step.offsets.start, step.offsets.stop))
            case NothingYet():
                self._clock.advance(600)
                return step
        self.offset = step.next_offset
        return step

    def until(self, offset, *, stop=None, max_records=100):
        """Reads until it has come that far."""
        for _ in range(300):
            if self.offset >= offset:
                return self
            self.step(stop=stop, max_records=max_records)
        raise AssertionError(f"stuck at {self.offset}")

    def stop(self, offset):
        """Reads exactly up to a stop."""
        self.until(offset, stop=offset)
        assert self.offset == offset
        return self

    def waits(self, steps=5):
        """There is nothing, again and again."""
        at = self.offset
        for _ in range(steps):
            self.step()
            assert self.offset == at

    def close(self):
        self._reader.close()

    @property
    def offsets(self):
        return [offset for offset, _, _ in self.found]

    @property
    def runs(self):
        """Stores as runs of offsets: [("archive", 0, 9), ...]."""
        runs = itertools.groupby(self.found, key=lambda one: one[2])
        return [(store, (run := list(group))[0][0], run[-1][0]) for store, group in runs]


@pytest.fixture
def client():
    """Who fetches; what depends on it is parametrised with both."""
    return "kafka-python"


@pytest.fixture
def log(kafka, object_store, client):
    """A log of its own for a test."""
    return Log(kafka, object_store, client=client)


@pytest.fixture
def reader_of():
    """Makes readers, and closes them."""
    made = []

    def make(log, **options):
        made.append(Reader(log, **options))
        return made[-1]

    yield make
    for reader in made:
        reader.close()


# -- back and forth


@by_each_client
@pytest.mark.rule("R2")
@pytest.mark.parametrize("resumed", [False, True], ids=["polling", "resumed"])
def test_back_to_the_archive_when_retention_passes_and_forward_again(log, reader_of, resumed):
    """R2: the exact next offset, whichever store has it; twice, while polling and after a pause."""
    reader = reader_of(log)
    log.append(30)
    log.flush(0, 10)
    reader.until(20, stop=20)
    for end in (30, 60):
        log.flush(end - 20, end)
        log.expire(end)
        log.append(30)
        if resumed:
            reader.resume()
        reader.stop(end + 20)
    assert reader.offsets == list(range(80))
    assert [value for _, value, _ in reader.found] == reader.offsets
    assert reader.runs == [
        ("archive", 0, 9), ("kafka", 10, 19), ("archive", 20, 29), ("kafka", 30, 49), ("archive", 50, 59), ("kafka", 60, 79)
    ]  # fmt: skip


@pytest.mark.rule("R2")
@pytest.mark.parametrize(
    ("prefer", "runs"),
    [
        ("archive", [("archive", 0, 39), ("kafka", 40, 49)]),
        ("kafka", [("archive", 0, 14), ("kafka", 15, 49)]),
    ],
)
def test_which_store_serves_what_both_hold(log, reader_of, prefer, runs):
    """R2: "archive" stays there as long as it is complete, "kafka" leaves it in the middle of a flush."""
    log.append(50)
    log.flush(0, 20)
    log.flush(20, 40)
    log.expire(15)
    assert reader_of(log, prefer=prefer).stop(50).runs == runs


# -- a log that is another one


@by_each_client
@pytest.mark.rule("R2", "R10")
def test_a_topic_created_anew_is_an_error(log, reader_of):
    """R2: with the same name, and offsets enough: told by its id, once the client has asked anew."""
    log.append(10)
    reader = reader_of(log).until(10)
    log.broker.delete_topic(log.topic)
    for attempt in Retrying(stop=stop_after_delay(20), wait=wait_fixed(0.2), reraise=True):
        with attempt:
            log.broker.create_topic(log.topic)
    log.append(20)
    reader.resume()
    with pytest.raises(DataLossError, match=r"rules-.*deleted and created anew"):
        reader.until(11)


@by_each_client
@pytest.mark.rule("R2")
def test_an_offset_above_the_end_is_an_error(log, reader_of):
    """R2: nothing is reset silently; without knowing the topic's id, too."""
    log.append(5)
    reader = reader_of(log, archived=False)
    reader.lineage, reader.offset = Lineage(), 9
    with pytest.raises(DataLossError, match=r"offset 9 is above the end of the log, Kafka holds \[0, 5\)"):
        reader.until(10)


@pytest.mark.rule("R2")
def test_an_archive_that_goes_on_where_kafka_ends_is_another_logs(log, reader_of):
    """R2: what was archived cannot lie above the end of the log."""
    log.append(10)
    commit = log.flush(0, 10)
    write_flush(
        log.archive,
        log.tp,
        [record._replace(offset=record.offset + 20) for record in log.records(0, 5)],
        start=20,
        stop=25,
    )
    reader = reader_of(log).until(10)
    assert commit.flush.stop == 10
    with pytest.raises(DataLossError, match="archive holds offsets up to 24"):
        reader.until(11)


@pytest.mark.rule("R2")
def test_a_log_cut_by_an_unclean_election_is_an_error(object_store, reader_of):
    """R2, KIP-320: what was read is gone, other records stand at its offsets: the leader epoch tells, whoever fetches."""
    broker = KafkaBroker.start(named_run(f"truncated-{os.getpid()}"))
    try:
        log, readers = Log(broker, object_store), {}
        log.append(10)
        for client in CLIENTS:
            log.kafka = replace(log.kafka, client=client)
            readers[client] = reader_of(log, archived=False).until(10)
            assert readers[client].lineage.leader_epoch is not None
        broker.kill()
        segment = broker.log_folder(log.topic) / f"{0:020d}.log"
        with segment.open("r+b") as file:
            file.truncate(segment.stat().st_size * 6 // 10)
        broker.start_again()
        log.append(20)
        assert len(log.records(0, 20)) == 20
        for client, reader in readers.items():
            log.kafka = replace(log.kafka, client=client)
            reader.resume()
            with pytest.raises(DataLossError, match=r"truncated below offset 10.*from offset 6 on it is another log"):
                reader.until(11)
    finally:
        broker.run.remove()


# -- gaps


GAPS = {
    "inside the archive": ([(0, 5), (9, 15)], 15, (5, 9)),
    "between the stores": ([(0, 5)], 9, (5, 9)),
    "at the start": ([(5, 9)], 9, (0, 5)),
    "at the start, no archive at all": ([], 5, (0, 5)),
}


@pytest.fixture(params=GAPS)
def gap(log, request):
    """A log of 20 records with a gap, the gap, and what lands late to fill it."""
    flushes, log_start, missing = GAPS[request.param]
    log.append(20)
    for start, stop in flushes:
        log.flush(start, stop)
    late = log.records(*missing)
    log.expire(log_start)
    return missing, lambda: write_flush(log.archive, log.tp, late, start=missing[0], stop=missing[1])


@pytest.mark.rule("R5")
@pytest.mark.parametrize("prefer", ["archive", "kafka"])
def test_a_gap_fails(log, gap, reader_of, prefer):
    """R5: after `gap_timeout`; the error names topic, partition, first and last missing offset."""
    (first, stop), _ = gap
    reader = reader_of(log, prefer=prefer, gap_timeout=timedelta(seconds=3)).until(first)
    reader.waits(4)
    with pytest.raises(DataLossError, match=rf"{log.topic}.*0.*offsets {first} to {stop - 1} are in neither store"):
        reader.until(20)
    assert reader.offsets == list(range(first))


@pytest.mark.rule("R5")
@pytest.mark.parametrize("prefer", ["archive", "kafka"])
def test_a_gap_is_skipped(log, gap, reader_of, prefer):
    """R5: given as a gap, once, with its range; then what follows."""
    (first, stop), _ = gap
    reader = reader_of(log, prefer=prefer, on_gap="skip", gap_timeout=timedelta(seconds=1)).stop(20)
    assert reader.gaps == [(first, stop)]
    assert reader.offsets == [*range(first), *range(stop, 20)]


@pytest.mark.rule("R5")
@pytest.mark.parametrize("on_gap", ["fail", "skip", "wait"])
def test_a_late_file_ends_a_gap(log, gap, reader_of, on_gap):
    """R5: "wait" looks for it for ever, the others as long as `gap_timeout`; then nothing is missing."""
    (first, _), lands = gap
    reader = reader_of(log, on_gap=on_gap, gap_timeout=timedelta(seconds=0 if on_gap == "wait" else 30)).until(first)
    reader.waits(20)
    lands()
    assert reader.stop(20).offsets == list(range(20))
    assert reader.gaps == []


# -- holes


@by_each_client
@pytest.mark.rule("R4")
@pytest.mark.parametrize("archived", [False, True])
def test_transactions_leave_holes_that_are_no_gaps(log, reader_of, archived):
    """R4: aborted records and markers, in the middle and at the end, in Kafka and in the archive; any stop is reached."""
    log.append(2)  # 0, 1
    log.transaction(3, commit=False)  # 2, 3, 4 and a marker at 5
    log.transaction(2, commit=True)  # 6, 7 and a marker at 8
    log.append(1)  # 9
    log.transaction(1, commit=True)  # 10 and a marker at 11: the end of the log
    if archived:
        log.flush(0, 4)
        log.flush(4, 12)
        log.expire(12)
    for stop in range(13):
        there = [offset for offset in (0, 1, 6, 7, 9, 10) if offset < stop]
        assert reader_of(log, on_gap="fail", gap_timeout=NO_PATIENCE).stop(min(stop, 12)).offsets == there


@pytest.mark.rule("R1", "R4")
def test_either_client_goes_on_where_the_other_stopped(log, reader_of):
    """R1, R4: workers may differ: position, leader epoch and topic id of one are good for the other, in a hole, too."""
    log.append(3)  # 0, 1, 2
    log.transaction(3, commit=False)  # 3, 4, 5 and a marker at 6
    log.append(2)  # 7, 8
    log.transaction(1, commit=True)  # 9 and a marker at 10
    reader = reader_of(log, archived=False, gap_timeout=NO_PATIENCE)
    for stop in range(1, 12):
        log.kafka = replace(log.kafka, client=CLIENTS[stop % 2])
        reader.resume()
        reader.stop(stop)
    assert reader.offsets == [0, 1, 2, 7, 8, 9]
    assert reader.lineage.leader_epoch is not None


@by_each_client
@pytest.mark.rule("R4")
def test_a_compacted_stretch_is_no_gap(kafka, object_store, reader_of, client):
    """R4: a stretch that is compacted away altogether, and a stop within it; the archive still has the records."""
    log = Log(
        kafka, object_store, client=client, cleanup_policy="compact", segment_bytes="1048576", segment_ms="100",
        min_cleanable_dirty_ratio="0.01", min_compaction_lag_ms="0", max_compaction_lag_ms="100", delete_retention_ms="0",
    )  # fmt: skip
    log.append(1, key=b"first")
    log.append(40, key=b"again and again")
    log.flush(0, 20)
    for attempt in Retrying(stop=stop_after_delay(60), wait=wait_fixed(0.5), reraise=True):
        with attempt:
            log.append(1, key=b"roll", step_ms=1_000)  # a segment is closed by a record that is younger by segment.ms
            end = log.records(0, 41)
            assert [record.offset for record in end] == [0, 40]
    archived, alone = reader_of(log).stop(41), reader_of(log, archived=False, gap_timeout=NO_PATIENCE)
    assert archived.offsets == [*range(20), 40]
    assert alone.stop(30).offsets == [0]
    assert alone.stop(41).offsets == [0, 40]


# -- archives as they are


@pytest.mark.rule("R1", "R3")
@pytest.mark.parametrize(
    "flushes",
    [
        [(0, 6), (4, 10)],
        [(0, 4), (4, 10), (0, 7)],
        [(0, 10), (3, 5), (5, 8)],
        [(0, 3), (0, 5), (0, 7), (6, 10), (2, 10)],
    ],
    ids=str,
)
@pytest.mark.parametrize("max_records", [1, 100])
def test_overlaps_are_read_once(log, reader_of, flushes, max_records):
    """R1: files that overlap, flushes that were retried with other boundaries: each offset once, in order."""
    log.append(12)
    for start, stop in flushes:
        log.flush(start, stop)
    log.expire(10)
    reader = reader_of(log).until(12, stop=12, max_records=max_records)
    assert reader.offsets == list(range(12))


@pytest.mark.rule("R3")
def test_a_flush_that_is_uploaded_while_we_read_counts_when_it_is_committed(log, reader_of):
    """R3: parts without their commit are not there; then the flush is read as a whole."""
    log.append(10, step_ms=HOUR_MS // 2)
    log.flush(0, 4)
    commit = log.flush(4, 10)
    files, root = log.archive.file_system()
    (committed,) = files.glob(f"{root}/{log.topic}/_commits/0/*{4:020d}-{10:020d}*")
    content = files.cat_file(committed)
    files.rm_file(committed)
    log.expire(10)
    assert len(commit.parts) > 2
    reader = reader_of(log, on_gap="wait").until(4)
    reader.waits()
    files.pipe_file(committed, content)
    log.append(1)
    assert reader.stop(11).offsets == list(range(11))


DAMAGE = {
    "shorter": lambda content: content[:-9],
    "longer": lambda content: content + content[-8:],
    "zero bytes": lambda _: b"",
}


@pytest.mark.rule("R3", "B2")
@pytest.mark.parametrize("damage", [*DAMAGE, "another file", "missing"])
def test_a_committed_part_that_is_not_what_was_committed_is_an_error(log, reader_of, damage):
    """R3, B2: part 2 of 3 missing, cut, replaced: an error that names the file; no record of the flush is skipped."""
    log.append(6, step_ms=HOUR_MS // 2)
    commit = log.flush(0, 6)
    log.expire(6)
    assert len(commit.parts) >= 3
    files, path = log.part(commit, 1)
    if damage == "missing":
        files.rm_file(path)
    elif damage == "another file":
        files.pipe_file(path, files.cat_file(log.part(commit, 0)[1]))
    else:
        files.pipe_file(path, DAMAGE[damage](files.cat_file(path)))
    reader = reader_of(log, on_gap="skip", gap_timeout=NO_PATIENCE)
    with pytest.raises(CorruptArchiveError) as error:
        reader.until(6)
    assert path.rpartition("/")[2] in str(error.value)
    assert reader.offsets == list(range(len(reader.offsets)))
    assert reader.gaps == []
