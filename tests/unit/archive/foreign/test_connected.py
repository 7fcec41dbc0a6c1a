"""The connection to a foreign archive: listings, and errors that name the file and the next step."""

import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from beam_unified import (
    Aiven,
    Archive,
    ArchiveUnavailableError,
    CorruptArchiveError,
    SequenceFiles,
    Template,
    TopicPartition,
    ValueLines,
    msk_delivery,
)
from beam_unified.archive.foreign.connected import ForeignArchive
from beam_unified.archive.foreign.layout import Completeness
from beam_unified.archive.storage import Storage
from beam_unified.testing import ManualClock
from tests.foreign_world import TOPIC, Files, Lines

TP, OTHER = TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)
ALLOWED = Completeness(max_hole=None, isolation_level="read_committed", finished=True)


@pytest.fixture
def files():
    """Two batches in folder b."""
    files = Files()
    files.put(0, [0, 1], folder="b")
    files.put(2, [2, 3], folder="b")
    return files


def connect(files, clock=None, completeness=None):
    layout = Lines(completeness=completeness or Completeness())
    refresh = timedelta(seconds=30)
    return ForeignArchive(files.root, {}, layout, refresh_interval=refresh, clock=clock or ManualClock())


def ranges(log, tp=TP, *, refresh=False):
    return [(flush.start, flush.stop) for flush in log.index(tp, refresh=refresh)]


@pytest.mark.rule("R3")
def test_a_topic_is_listed_once_for_its_partitions(files):
    """R3: what came later is not seen by any of them before the listing has aged."""
    clock = ManualClock()
    log = connect(files, clock)
    assert ranges(log) == [(0, 2), (2, 4)]
    files.put(0, [0], folder="b", partition=1)
    assert ranges(log, OTHER) == []
    clock.advance(30_000)
    assert ranges(log, OTHER) == [(0, 1)]


@pytest.mark.rule("R3")
def test_an_aged_listing_is_continued_and_a_gap_lists_all(files):
    """R3: behind the last name; an old folder is looked into before a gap is believed."""
    clock = ManualClock()
    log = connect(files, clock)
    assert ranges(log) == [(0, 2), (2, 4)]
    files.put(4, [4], folder="a")
    files.put(5, [5], folder="c")
    clock.advance(30_000)
    assert ranges(log) == [(0, 2), (2, 4 + 1), (5, 6)]
    assert ranges(log, refresh=True) == [(0, 2), (2, 4), (4, 5), (5, 6)]


@pytest.mark.rule("R3", "R1")
def test_a_file_is_listed_anew_before_it_is_called_corrupt():
    """R3: a counted file that ends before the next one begins: a file between them sorts before what a listing went on behind."""
    files, clock = Files(), ManualClock()
    storage, layout = Storage(files.root, {}), msk_delivery(ValueLines(), dense=True)
    log = ForeignArchive(files.root, {}, layout, refresh_interval=timedelta(seconds=30), clock=clock)

    def put(hour, partition, start):
        lines = b"".join(b"%d\n" % offset for offset in range(start, start + 10))
        storage.put(f"c/pins/year=2026/month=07/day=14/hour={hour}/pins+{partition}+{start:018d}-0-1", lines)

    put(12, 0, 0)
    put(12, 1, 0)
    assert ranges(log) == [(0, 10)]
    put(12, 0, 10)
    put(13, 0, 20)
    clock.advance(30_000)
    assert ranges(log) == [(0, 20), (20, 30)]
    found, at = list[int](), 0
    while (flush := log.index(TP).covering(at)) is not None:
        reader = log.open(TP, flush, at)
        while (batch := reader.read(7)) is not None:
            found += batch.offsets()
        at = reader.stop
    assert (found, ranges(log)) == (list(range(30)), [(0, 10), (10, 20), (20, 30)])


@pytest.mark.rule("R3")
def test_readers_that_wait_for_a_listing_share_it(files, monkeypatch):
    """R3: whoever asked before a listing began is content with it: one that is under way, and one more for all who came since."""
    clock, asked, listings = ManualClock(), threading.Semaphore(0), list[str]()
    list_files, monotonic, readers = Storage.files, clock.monotonic, 8
    log = connect(files, clock)
    ranges(log)

    def counted_files(storage, folder):
        listings.append(folder)
        if len(listings) == 1:
            for _ in range(readers + 1):  # when it was asked for, each time, and when it began
                assert asked.acquire(timeout=20)
        clock.advance(1)
        return list_files(storage, folder)

    def told_monotonic():
        now = monotonic()
        asked.release()
        return now

    monkeypatch.setattr(Storage, "files", counted_files)
    monkeypatch.setattr(clock, "monotonic", told_monotonic)
    with ThreadPoolExecutor(readers) as pool:
        found = [pool.submit(ranges, log, TopicPartition(TOPIC, one), refresh=True) for one in range(readers)]
        assert [one.result() for one in found] == [[(0, 2), (2, 4)], *[[]] * (readers - 1)]
    assert len(listings) == 2


@pytest.mark.rule("R3")
def test_where_holes_are_allowed_every_listing_is_whole(files):
    """R3: a file that was missed would be taken for a hole."""
    clock = ManualClock()
    log = connect(files, clock, ALLOWED)
    assert ranges(log) == [(0, 2), (2, 4)]
    files.put(4, [4], folder="a")
    files.put(5, [5], folder="c")
    clock.advance(30_000)
    assert ranges(log) == [(0, 2), (2, 4), (4, 5), (5, 6)]


def read_all(log, tp=TP):
    for flush in log.index(tp, refresh=True):
        reader = log.open(tp, flush, flush.start)
        while reader.read(10) is not None:
            pass
        reader.close()
        reader.close()


@pytest.mark.rule("B2")
def test_a_file_that_is_gone_is_named_and_looked_for_anew(files):
    """B2: and whoever tries again sees what is there now."""
    log = connect(files)
    log.index(TP)
    files.remove(f"{TOPIC}/b/0_0.json")
    with pytest.raises(CorruptArchiveError, match=rf"pins\[0\]: {files.root}/pins/b/0_0.json was listed and is gone"):
        log.open(TP, next(iter(log.index(TP))), 0).read(10)
    assert ranges(log) == [(2, 4)]


@pytest.mark.rule("B2", "R1")
def test_a_file_whose_offsets_go_back_is_an_error(files):
    """R1: it cannot be merged in order; it is named, with the offset."""
    files.put(4, [4, 5, 6, 7, 6, 8], folder="b")
    with pytest.raises(CorruptArchiveError, match=r"0_4.json cannot be read as .*its offsets go back, near offset 6"):
        read_all(connect(files))


@pytest.mark.rule("B2")
def test_a_place_without_the_topic_says_what_is_there():
    """B2: no folder; or files, but none that the layout knows."""
    files = Files()
    with pytest.raises(
        ArchiveUnavailableError, match=rf"no archive of topic 'pins': there is no file under {files.root}/pins"
    ):
        connect(files).check(TOPIC, isolation_level="read_committed")
    connect(files).check(TOPIC, isolation_level="read_committed", must_exist=False)
    archive = Archive(files.root, layout=Lines())
    system, root = archive.file_system()
    system.pipe(f"{root}/{TOPIC}/b/part-0.parquet", b"x")
    with pytest.raises(
        ArchiveUnavailableError, match=r"is named as .*for example 'pins/b/part-0.parquet'.*detect_layout"
    ):
        archive.connect().check(TOPIC, isolation_level="read_committed")


def test_files_that_the_layout_does_not_know_are_said(files, caplog):
    """B2: never a silent skip; markers are no news."""
    system, root = Archive(files.root).file_system()
    system.pipe(
        {f"{root}/{TOPIC}/b/notes.txt": b"x", f"{root}/{TOPIC}/b/_SUCCESS": b"", f"{root}/{TOPIC}/b/.0_4.json": b""}
    )
    assert ranges(connect(files)) == [(0, 2), (2, 4)]
    (said,) = [record.message for record in caplog.records if "are not named as" in record.message]
    assert said.startswith(f"1 files of topic pins under {files.root} are not named as {Lines()!r} has it")
    assert said.endswith("for example pins/b/notes.txt")


@pytest.mark.rule("R3")
def test_known_reach_is_looked_into_however_far_back():
    """R3: a batch that is known to reach into later ones fills what they lack, many batches on."""
    files = Files()
    files.put(0, range(40), folder="long")
    for start in range(1, 30):
        files.put(start, [start], folder="b")
    log, found, at = connect(files), list[int](), 0
    while (flush := log.index(TP).covering(at) or log.index(TP, refresh=True).covering(at)) is not None:
        reader = log.open(TP, flush, at)
        while (batch := reader.read(3)) is not None:
            found += batch.offsets()
        at = reader.stop
        reader.close()
    assert found == list(range(40))


@pytest.mark.rule("A3")
def test_a_topic_and_a_folder_may_begin_with_an_underscore():
    """A3: they are not taken for Hadoop's markers."""
    files = Files()
    Storage(files.root, {}).put("_events-0-0", b'{"value":1,"offset":0}')
    archive = Archive(files.root, layout=Aiven(format="jsonl", fields=("value", "offset")))
    archive.connect().check("_events", isolation_level="read_committed")
    assert ranges(archive.connect(), TopicPartition("_events", 0)) == [(0, 1)]
    files.put(0, [0], folder="_b")
    assert ranges(connect(files)) == [(0, 1)]


@pytest.mark.rule("A3")
def test_a_file_without_a_record_is_no_damaged_one():
    """A3: in a format that holds offsets; where they are counted it is too short."""
    files, java = Files(), "org.apache.hadoop.io."
    classes = (f"{java}LongWritable".encode(), f"{java}BytesWritable".encode())
    head = b"SEQ\x06" + b"".join(bytes([len(name)]) + name for name in classes) + bytes(6) + b"s" * 16
    record = struct.pack(">iiqi", 13, 8, 0, 1) + b"x"
    storage = Storage(files.root, {})
    storage.put("pins/a/0_0.seq", head + record)
    storage.put("pins/b/0_0.seq", head)
    storage.put("pins/a/0_1.seq", head + record.replace(struct.pack(">q", 0), struct.pack(">q", 1), 1))
    log = Archive(files.root, layout=Template("{topic}/{*}/{partition}_{start}.seq", SequenceFiles())).connect()
    read_all(log)
    assert ranges(log) == [(0, 1), (1, 2)]
    storage.put("pins/0_0.txt", b"")
    storage.put("pins/0_5.txt", b"x\n")
    log = Archive(files.root, layout=Template("{topic}/{partition}_{start}.txt", ValueLines(), dense=True)).connect()
    with pytest.raises(CorruptArchiveError, match=r"0_0.txt.*it holds 0 records, but covers offsets 0 to 4"):
        read_all(log)
