"""Snapshots of any log: what is captured is what is replayed, and no change of a pinned file goes unnoticed."""

import itertools
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.archive import layout
from beam_unified.archive.archive import Archive
from beam_unified.archive.pins import PinnedFile, PinnedFlush, PinnedPartition, serving
from beam_unified.archive.writer import write_flush
from beam_unified.errors import ConfigError, DataLossError, SnapshotChangedError
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.positions import Start, Stop
from beam_unified.snapshots import codec
from beam_unified.snapshots.snapshot import Snapshot
from beam_unified.testing import assert_same_digests, digests_of
from tests.snapshot_world import TOPIC, Archived, replay
from tests.strategies import TP, World, flush_lists, flushes, without_store, worlds

pytestmark = pytest.mark.rule("R9")

NAMES = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
TEXT = st.text(min_size=1, max_size=40)
SIZES = st.integers(0, 2**63 - 1)


@st.composite
def pinned_partitions(draw: st.DrawFn) -> PinnedPartition:
    """Any partition of a snapshot."""
    partition = draw(st.integers(0, 2**31 - 1))
    found, at = [], draw(st.integers(0, 1_000))
    start = at
    for length in draw(st.lists(st.integers(1, 100), max_size=4)):
        name = layout.PartName(partition=partition, start=at, stop=at + length, part=1, parts=1)
        commit = f"_commits/{partition}/{at:020d}-{at + length:020d}-none-none.json"
        part = PinnedFile(
            path=layout.part_path(name, draw(st.none() | st.integers(-(10**5), 10**7))),
            size_bytes=draw(SIZES),
            kind=draw(st.sampled_from(("etag", "sha256"))),
            fingerprint=draw(TEXT),
        )
        pinned = PinnedFile(path=commit, size_bytes=draw(SIZES), kind="sha256", fingerprint=draw(TEXT))
        found.append(PinnedFlush(commit=pinned, parts=(part,)))
        at += length
    return PinnedPartition(
        tp=TopicPartition(draw(NAMES), partition),
        offsets=OffsetRange(start, at),
        flushes=tuple(found),
        uncommitted=tuple(draw(st.lists(TEXT, max_size=2))),
    )


@given(TEXT, TEXT, st.lists(pinned_partitions(), min_size=1, max_size=4, unique_by=lambda one: one.tp))
def test_a_snapshot_file_gives_back_what_was_written(root, level, partitions):
    """Every field, sorted; and the same bytes when written again."""
    content = codec.encode(root, level, partitions)
    decoded = codec.decode(content, "x.json")
    assert decoded == (root, level, tuple(sorted(partitions, key=lambda one: one.tp)))
    assert codec.encode(*decoded) == content


@given(flush_lists(), st.tuples(st.integers(0, 40), st.integers(0, 40)).map(sorted))
def test_pieces_and_gaps_make_up_the_range(found, bounds):
    """Each offset is in one piece, whose flush covers it, or in a gap, and then no flush does."""
    start, stop = bounds
    pieces, missing = serving(found, OffsetRange(start, stop))
    for offset in range(start, stop):
        serves = [piece for piece in pieces if piece.start <= offset < piece.flush.stop]
        gaps = [gap for gap in missing if offset in gap]
        assert len(serves) + len(gaps) == 1
        assert bool(gaps) == (not any(flush.start <= offset < flush.stop for flush in found))
        assert all(piece.flush in found and piece.flush.start <= offset for piece in serves)
    assert all(start <= piece.start < stop for piece in pieces)
    assert all(start <= gap.start < gap.stop <= stop for gap in missing)


@given(worlds(), st.booleans())
def test_a_replay_is_what_a_reader_would_have_read(world: World, archive_missing: bool):
    """Over holes, compaction, overlapping flushes and retention, however often it is interrupted; or a refusal."""
    offsets, held = OffsetRange(world.start, world.stop), world.log.kafka.bounds(TP)
    archive, archive_missing = archive_of(world), archive_missing or len(world.log.archive.index(TP)) == 0
    _, missing = serving(world.log.archive.index(TP), offsets)
    start, stop = Start.offsets({0: world.start}), Stop.offsets({0: world.stop})
    refusal: type[Exception] | None = None
    if any(gap.start < held.start for gap in missing):
        refusal = DataLossError
    elif missing and not archive_missing:
        refusal = ConfigError
    if refusal is not None:
        with pytest.raises(refusal):
            Snapshot.capture(world.log.kafka, archive, TOPIC, start=start, stop=stop, archive_missing=archive_missing)
        return
    snapshot = Snapshot.capture(
        world.log.kafka, archive, TOPIC, start=start, stop=stop, archive_missing=archive_missing
    )
    found = replay(snapshot, max_records=3)
    assert list(without_store(found[TP])) == list(without_store(world.wanted()))
    assert replay(snapshot, max_records=2, resume_every=1) == found


def archive_of(world: World) -> Archive:
    """What is archived in memory, as files."""
    archive, log = Archive(f"memory://{uuid.uuid4().hex}"), world.log.archive
    for flush in log.index(TP):
        batch = log.open(TP, flush, flush.start).read(1_000)
        records = [] if batch is None else batch.records()
        write_flush(archive, TP, records, start=flush.start, stop=flush.stop)
    return archive


RECORDS = 12


@st.composite
def captured(draw: st.DrawFn) -> tuple[Archived, Snapshot, OffsetRange]:
    """An archive of twelve offsets, flushed anyhow, and a snapshot of a part of it."""
    world = Archived()
    world.produce(RECORDS)
    inner = draw(st.sets(st.integers(1, RECORDS - 1), max_size=3))
    edges = [0, *sorted(inner), RECORDS]
    for start, stop in itertools.pairwise(edges):
        world.flush(start, stop)
    first = draw(st.integers(0, RECORDS - 1))
    last = draw(st.integers(first + 1, RECORDS))
    snapshot = world.capture(start=Start.offsets({0: first}), stop=Stop.offsets({0: last}))
    return world, snapshot, OffsetRange(first, last)


def _cut(content: bytes, at: int) -> bytes:
    return content[: at % len(content)]


def _flip(content: bytes, at: int) -> bytes:
    place = at // 8 % len(content)
    return content[:place] + bytes([content[place] ^ 1 << at % 8]) + content[place + 1 :]


def _append(content: bytes, at: int) -> bytes:
    return content + bytes([at % 256])


@given(captured(), st.integers(0, 10**6), st.sampled_from((None, _cut, _flip, _append)), st.integers(0, 10**6))
def test_any_change_of_a_pinned_file_is_found(taken, chosen, change, at):
    """Deleted, cut anywhere, any bit flipped, made longer: an error that names it. A file that is not pinned may change."""
    world, snapshot, _ = taken
    found = replay(snapshot)
    path = world.paths()[chosen % len(world.paths())]
    pinned = {f"{world.root}/{TOPIC}/{file.path}" for one in snapshot.partitions for file in one.files()}
    if change is None:
        world.files.rm_file(path)
    else:
        world.replace(path, change(world.files.cat_file(path), at))
    if path in pinned:
        with pytest.raises(SnapshotChangedError, match=path):
            replay(snapshot)
    else:
        assert replay(snapshot) == found


@given(captured(), flushes(highest=RECORDS + 8))
def test_an_additional_flush_is_found_if_it_has_an_offset_of_the_range(taken, flush):
    """Wherever it begins and ends; outside of the range it is nobody's business."""
    world, snapshot, offsets = taken
    found, before = replay(snapshot), world.paths()
    world.flush(flush.start, flush.stop)
    inside = any(offset in offsets for offset in range(flush.start, flush.stop))
    if inside and world.paths() != before:
        with pytest.raises(SnapshotChangedError, match=f"{flush.start:020d}-{flush.stop:020d}.* is additional"):
            replay(snapshot)
    else:
        assert replay(snapshot) == found


@given(st.randoms(use_true_random=False), st.integers(1, 30), st.integers(1, 10))
def test_a_digest_is_a_function_of_the_records_alone(random, count, block):
    """Any order, any cut into blocks of the same size; one record more or less, or another, is another digest."""
    world = Archived()
    world.produce(count)
    records = [(record, offset * 1_000) for offset, record in enumerate(world.log.records(0))]
    shuffled = random.sample(records, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("beam_unified.digests._BLOCK_OFFSETS", block)
        one, other = digests_of(records), digests_of(shuffled)
        assert_same_digests(other, one)
        left_out, changed = shuffled[1:], [(shuffled[0][0], shuffled[0][1] + 1_000), *shuffled[1:]]
        for different in (left_out, changed, [*shuffled, shuffled[0]]):
            with pytest.raises(AssertionError):
                assert_same_digests(digests_of(different), one)
