"""Archives of other tools through `LogReader`: whatever files overlap, the records are the ledger's; what is lost is a gap."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.archive.archive import Archive
from beam_unified.archive.foreign.connected import ForeignArchive
from beam_unified.archive.foreign.layout import Completeness
from beam_unified.errors import DataLossError
from beam_unified.offsets import TopicPartition
from beam_unified.positions import AtTimestamp
from beam_unified.reading.reader import Gap, LogReader, Progress, ReadOptions
from beam_unified.reading.resolve import resolve_start
from beam_unified.testing import InMemoryLog, ManualClock
from tests.foreign_world import TOPIC, Files, Lines, archives, time_folder, time_of, value_of

TP = TopicPartition(TOPIC, 0)
TAIL = 5
"""So many records are in Kafka alone."""


def kafka_from(start, stop):
    """A log that holds `[start, stop)`."""
    log = InMemoryLog(TOPIC)
    for offset in range(stop):
        log.append(0, value_of(offset), timestamp=time_of(offset))
    log.flush(0)
    log.expire(0, start)
    return log.kafka


def read(files, kafka, stop, *, layout=None, max_records=3, on_gap="fail", lives=1_000, start=0, gap_s=2):
    """Offsets from start to stop, the gaps that were skipped, and what it failed with."""
    archive = Archive(files.root, layout=layout or Lines()).connect()
    options = ReadOptions(on_gap=on_gap, gap_timeout=timedelta(seconds=gap_s))
    clock, offset, found, gaps = ManualClock(), start, list[int](), list[tuple[int, int]]()
    reader = LogReader(TP, kafka, archive, options, clock)
    for turn in range(3_000):
        if offset >= stop:
            return found, gaps, None
        if turn % lives == lives - 1:
            reader = LogReader(TP, kafka, archive, options, clock)
        try:
            step = reader.read(offset, stop=stop, max_records=max_records, timeout_ms=0)
        except DataLossError as error:
            return found, gaps, str(error)
        if isinstance(step, Progress | Gap):
            assert offset <= step.next_offset <= stop
            offset = step.next_offset
        if isinstance(step, Gap):
            gaps.append((step.offsets.start, step.offsets.stop))
        elif isinstance(step, Progress) and step.batch is not None:
            for record in step.batch.records():
                assert record.value == value_of(record.offset)
                assert record.timestamp == time_of(record.offset)
                found.append(record.offset)
        else:
            clock.advance(400)
    raise AssertionError(f"stuck at offset {offset}")


@pytest.mark.rule("R1", "A3")
@given(archives(), st.integers(1, 7), st.sampled_from((1, 2, 1_000)))
def test_whatever_overlaps_each_offset_comes_once_and_in_order(world, max_records, lives):
    """Batches in several folders, reaching into the next ones, copied, the newest one shorter: then Kafka, at the exact offset."""
    files, end = world
    kafka = kafka_from(end, end + TAIL)
    assert read(files, kafka, end + TAIL, max_records=max_records, lives=lives) == (list(range(end + TAIL)), [], None)


@pytest.mark.rule("R1", "R4", "A3")
@given(archives(holes=True), st.sampled_from((None, 1, 2, 5)), st.integers(1, 7), st.sampled_from((1, 2, 1_000)))
def test_where_holes_are_allowed_what_any_batch_holds_is_read(world, max_hole, max_records, lives):
    """R4: a hole of one batch is none where an earlier one reaches further; what is longer than allowed is a gap, and no more."""
    files, end = world
    rules = Completeness(max_hole=max_hole, isolation_level="read_committed", finished=True)
    kafka, there = kafka_from(end, end + TAIL), [*files.offsets(), *range(end, end + TAIL)]
    options = {"on_gap": "skip", "gap_s": 0, "max_records": max_records, "lives": lives}
    found, gaps, error = read(files, kafka, end + TAIL, layout=Lines(completeness=rules), **options)
    assert (found, error) == (there, None)
    assert not {offset for start, stop in gaps for offset in range(start, stop)} & {*there}
    assert max_hole is not None or not gaps


@pytest.mark.rule("R6", "A3")
@given(st.data(), st.booleans(), st.booleans(), st.booleans())
def test_an_instant_is_found_whichever_batch_holds_it(data, by_time, holes, removed):
    """R6: the first offset at or after it, before and after the files were read; behind a file that is gone, too."""
    files, end = data.draw(archives(max_offset=24, max_batches=3, by_time=by_time, holes=holes))
    rules = Completeness(max_hole=None if holes else 0, isolation_level="read_committed", finished=True)
    if removed:
        files.remove(data.draw(st.sampled_from(sorted(files.there))))
    kafka, there = kafka_from(end, end).connect(), files.offsets()

    def check(archive, instant):
        expected = next((offset for offset in there if time_of(offset) >= instant), end)
        assert resolve_start(AtTimestamp(instant), TP, kafka, archive) == expected

    archive = Archive(files.root, layout=Lines(completeness=rules)).connect()
    check(archive, time_of(data.draw(st.integers(0, end))))
    for flush in archive.index(TP):
        reader = archive.open(TP, flush, flush.start)
        while reader.read(3) is not None:
            pass
        reader.close()
    archive.index(TP, refresh=True)
    for instant in range(time_of(0), time_of(end) + 1, 2):
        check(archive, instant)


@pytest.mark.rule("R6")
def test_an_instant_that_only_an_earlier_batch_holds_is_found():
    """R6: as in secor#97, in folders by time: the newer batch ends before the older one, its own bounds before the instant."""
    files = Files()
    for start, stop in ((0, 30), (10, 14), (30, 34)):
        for folder in sorted({time_folder(offset) for offset in range(start, stop)}):
            files.put(start, [o for o in range(start, stop) if time_folder(o) == folder], folder=folder)
    archive, kafka = Archive(files.root, layout=Lines()).connect(), kafka_from(34, 34).connect()
    assert resolve_start(AtTimestamp(time_of(21)), TP, kafka, archive) == 21


@pytest.mark.rule("R6")
def test_an_instant_behind_what_is_missing_is_found():
    """R6: that a flush ends at a gap is known by reading only; what is left of it is searched, too."""
    files = Files()
    files.put(0, [0, 1, 5, 6, 7])
    files.put(8, [8, 9])
    archive, kafka = Archive(files.root, layout=Lines()).connect(), kafka_from(10, 10).connect()
    assert resolve_start(AtTimestamp(time_of(6)), TP, kafka, archive) == 6
    assert [(flush.start, flush.stop) for flush in archive.index(TP)] == [(0, 2), (5, 8), (8, 10)]


@pytest.mark.rule("R5", "A3")
@given(archives(), st.data())
def test_what_was_removed_is_a_gap(world, data):
    """R5: files or whole batches that are gone are missed at the first offset that nobody has; behind each gap it goes on."""
    files, end = world
    starts = sorted({path.rpartition("_")[2] for path in files.there})
    gone = data.draw(st.sampled_from(["a file", "a batch"]))
    chosen = data.draw(st.sampled_from(sorted(files.there) if gone == "a file" else starts))
    for path in [path for path in files.there if path.endswith(chosen)]:
        files.remove(path)
    kafka, there = kafka_from(end, end + TAIL), {*files.offsets(), *range(end, end + TAIL)}
    missing = [offset for offset in range(end) if offset not in there]
    found, gaps, error = read(files, kafka, end + TAIL)
    if not missing:
        assert (found, gaps, error) == (list(range(end + TAIL)), [], None)
        return
    assert found == list(range(missing[0]))
    assert error is not None
    assert f"pins[0]: offsets {missing[0]} to " in error
    found, gaps, error = read(files, kafka, end + TAIL, on_gap="skip")
    assert found == sorted(there)
    assert [offset for start, stop in gaps for offset in range(start, stop)] == missing


@pytest.mark.rule("R2")
def test_a_hole_that_kafka_holds_is_read_from_kafka():
    """R2: the archive ends where it is not complete, wherever that is; what Kafka has is no gap."""
    files = Files()
    files.put(0, [0, 1, 2, 3])
    files.put(6, [6, 7])
    assert read(files, kafka_from(3, 9), 9) == (list(range(9)), [], None)


@pytest.mark.rule("R4")
def test_holes_are_holes_where_the_user_says_so():
    """R4: up to so many offsets in a row; one more is a gap."""
    files = Files()
    files.put(0, [0, 1, 4, 5])
    files.put(8, [8, 9])
    allowed = Completeness(max_hole=2, isolation_level="read_committed", finished=True)
    assert read(files, kafka_from(10, 12), 12, layout=Lines(completeness=allowed))[0] == [0, 1, 4, 5, 8, 9, 10, 11]
    fewer = Completeness(max_hole=1, isolation_level="read_committed", finished=True)
    found, _, error = read(files, kafka_from(10, 12), 12, layout=Lines(completeness=fewer))
    assert (found, "offsets 2 to 3 are in neither" in str(error)) == ([0, 1], True)


@pytest.mark.rule("R3")
def test_the_newest_batch_counts_only_where_it_is_proven():
    """R3: with holes allowed half of it may still be on its way, and nothing would show; without, what follows on is proven."""
    files = Files()
    files.put(0, [0, 1, 2])
    files.put(3, [3, 5])
    holes = Completeness(max_hole=None, isolation_level="read_committed")
    assert stop_of(files, Lines(completeness=holes)) == 3
    assert (
        stop_of(files, Lines(completeness=Completeness(max_hole=None, isolation_level="read_committed", finished=True)))
        == 6
    )
    assert [(flush.start, flush.stop) for flush in index(files, Lines())] == [(0, 3), (3, 4), (5, 6)]


@pytest.mark.rule("R3")
def test_names_with_both_ends_need_no_reading():
    """R3: a batch covers what its name says; between two of them a gap is a gap."""
    files = Files()
    files.put(0, [0, 1], stop=2)
    files.put(5, [5], stop=6)
    assert [(flush.start, flush.stop) for flush in index(files, Lines())] == [(0, 2), (5, 6)]
    allowed = Completeness(max_hole=3, isolation_level="read_committed")
    assert [(flush.start, flush.stop) for flush in index(files, Lines(completeness=allowed))] == [(0, 5), (5, 6)]


@pytest.mark.rule("R3")
def test_a_late_file_ends_a_gap():
    """R3, R5: what was found missing is looked for again when the partition's files have changed."""
    files, clock = Files(), ManualClock()
    files.put(0, [0, 1])
    files.put(4, [4])
    reader = LogReader(TP, kafka_from(5, 6), Archive(files.root, layout=Lines()).connect(), ReadOptions(), clock)
    found, offset, put = list[int](), 0, False
    for _ in range(40):
        step = reader.read(offset, stop=6, max_records=10, timeout_ms=0)
        if isinstance(step, Progress):
            offset = step.next_offset
            found += [] if step.batch is None else step.batch.offsets()
        else:
            clock.advance(2_000)
            if not put:
                files.put(2, [2, 3])
                put = True
    assert found == [0, 1, 2, 3, 4, 5]


@pytest.mark.rule("R5")
def test_a_gap_is_believed_although_the_archive_is_written_to():
    """R5: files that begin behind the gap cannot end it, so the wait for what is missing goes on, and ends."""
    files, clock = Files(), ManualClock()
    files.put(0, range(10))
    files.put(20, range(20, 30))
    archive = ForeignArchive(files.root, {}, Lines(), refresh_interval=timedelta(seconds=30), clock=clock)
    options = ReadOptions(gap_timeout=timedelta(minutes=10))
    reader = LogReader(TP, kafka_from(900, 1_000), archive, options, clock)

    def read_on():
        offset = 0
        for turn in range(100):
            if turn % 10 == 0:
                files.put(30 + turn, range(30 + turn, 40 + turn))
            step = reader.read(offset, stop=None, max_records=100, timeout_ms=0)
            offset = step.next_offset if isinstance(step, Progress) else offset
            clock.advance(30_000)

    with pytest.raises(DataLossError, match="offsets 10 to 19 are in neither store"):
        read_on()


def index(files, layout):
    return list(Archive(files.root, layout=layout).connect().index(TP, refresh=True))


def stop_of(files, layout):
    return max(flush.stop for flush in index(files, layout))
