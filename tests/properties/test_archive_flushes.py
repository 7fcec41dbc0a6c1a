"""Any flush, written and read: the same records in offset order, from any offset, in chunks of any size."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.archive import reader
from beam_unified.archive.archive import Archive
from beam_unified.archive.writer import write_flush
from beam_unified.offsets import TopicPartition
from beam_unified.records import Record, Store
from tests.contracts.batches import checked
from tests.strategies import records

TP = TopicPartition("pins", 2)
HOUR_MS = 3_600_000
T0 = 1_794_830_400_000
TIMES = st.integers(T0, T0 + 30 * HOUR_MS)  # a few hours, so that parts interleave


@st.composite
def flushed(draw: st.DrawFn) -> tuple[int, int, list[Record]]:
    """A range, and what is in it: late records, holes, tombstones, no times, any headers."""
    start = draw(st.integers(0, 2**63 - 100))
    offsets = sorted(start + gap for gap in draw(st.sets(st.integers(0, 60), max_size=25)))
    found = []
    for offset in offsets:
        one = draw(records())
        if one.timestamp is not None and draw(st.booleans()):
            one = one._replace(timestamp=draw(TIMES))
        kind = None if one.timestamp is None else one.timestamp_type
        if one.timestamp is not None and kind is None:
            one = one._replace(timestamp=None)
        found.append(
            one._replace(
                topic=TP.topic, partition=TP.partition, offset=offset, timestamp_type=kind, store=Store.ARCHIVE.value
            )
        )
    last = offsets[-1] if offsets else start
    return start, draw(st.integers(last + 1, last + 20)), found


def read(archive: Archive, offset: int, sizes: list[int]) -> list[Record]:
    log, found = archive.connect(), list[Record]()
    (flush,) = log.index(TP)
    opened = log.open(TP, flush, offset)
    turn = 0
    while (batch := opened.read(sizes[turn % len(sizes)])) is not None:
        assert len(batch) <= sizes[turn % len(sizes)]
        found += checked(batch, Store.ARCHIVE)
        turn += 1
    opened.close()
    return found


@pytest.mark.rule("R1", "A1")
@pytest.mark.parametrize("place", ["memory", "disk"])
@given(flush=flushed(), data=st.data())
def test_what_is_written_is_read(place, tmp_path_factory, flush, data):
    """Files cut anywhere, opened anywhere, decoded in batches of any size."""
    start, stop, written = flush
    name = uuid.uuid4().hex
    root = f"memory://{name}" if place == "memory" else (tmp_path_factory.getbasetemp() / name).as_posix()
    archive = Archive(root)
    rows_per_part = data.draw(st.integers(1, 30), "max_rows_per_part")
    commit = write_flush(archive, TP, written, start=start, stop=stop, max_rows_per_part=rows_per_part)
    assert sum(part.rows for part in commit.parts) == len(written)
    wanted_from = data.draw(st.integers(start, stop), "offset")
    sizes = data.draw(st.lists(st.integers(1, 30), min_size=1, max_size=3), "max_records")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_BATCH_ROWS", data.draw(st.integers(1, 10), "batch"))
        patch.setattr(reader, "_WHOLE_FILES_BYTES", data.draw(st.sampled_from((0, 3_000, 10**9)), "whole"))
        assert read(archive, wanted_from, sizes) == [one for one in written if one.offset >= wanted_from]
