"""A damaged file of the archive is an error or harmless; it never gives other records."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_unified.archive.archive import Archive
from beam_unified.archive.writer import write_flush
from beam_unified.errors import CorruptArchiveError
from beam_unified.offsets import TopicPartition
from beam_unified.records import Record, TimestampType

TP = TopicPartition("pins", 0)
RECORDS = [
    Record(
        b"k%d" % n,
        bytes([n % 256]) * 30,
        (),
        TP.topic,
        0,
        n,
        1_794_830_400_000 + n,
        TimestampType.CREATE_TIME,
        "archive",
    )
    for n in range(300)
]


@pytest.fixture(scope="module")
def damaged():
    """The archive, and a function that puts other content in the place of its only file."""
    archive = Archive("memory://damage")
    commit = write_flush(archive, TP, RECORDS, start=0, stop=300)
    files, root = archive.file_system()
    path = f"{root}/{TP.topic}/{commit.parts[0].path}"
    return archive, files.cat_file(path), lambda content: files.pipe_file(path, content)


@pytest.mark.rule("B2")
@settings(max_examples=300)
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=3))
def test_flipped_bits_are_found_or_harmless(damaged, flips):
    """B2: whichever bits flip, the file is named in an error, or every record is as it was: pages carry checksums."""
    archive, good, replace = damaged
    content = bytearray(good)
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    replace(bytes(content))
    try:
        found = read(archive)
    except CorruptArchiveError as error:
        message = str(error)
    else:
        assert found == RECORDS
        return
    assert "pins[0]" in message
    assert ".parquet" in message


def read(archive):
    """All records of the archive's only flush."""
    log = archive.connect()
    (flush,) = log.index(TP)
    reader = log.open(TP, flush, 0)
    found = []
    try:
        while (batch := reader.read(100)) is not None:
            found += batch.records()
    finally:
        reader.close()
    return found
