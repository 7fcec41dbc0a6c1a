"""SequenceFiles that Hadoop 3.4.1's own classes wrote (tests/data/sequence_files, with the program that wrote them).

zstd is SequenceFile of Hadoop over Airlift's codec: Hadoop's own needs a native library.
"""

import contextlib
import gzip
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.archive.foreign import sequence_file
from beam_unified.archive.foreign.codecs import BadFileError
from tests.data.secor import SYNCED

FILES = {
    path.name: path.read_bytes()
    for path in sorted((Path(__file__).parents[3] / "data" / "sequence_files").iterdir())
    if path.suffix != ".java"
}


def read(content):
    """Offsets and values of a file."""
    found = list(sequence_file.read(io.BytesIO(content), len(content)))
    return [offset for columns in found for offset in columns.offsets or ()], [
        value for columns in found for value in columns.values
    ]


@pytest.mark.parametrize("name", FILES)
def test_every_compression_of_hadoop_is_read(name):
    """A3: NONE, RECORD and BLOCK, each codec: every offset and value, in order."""
    assert read(FILES[name]) == ([7 + 2 * n for n in range(300)], [b"value-%d" % n for n in range(300)])


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_in_a_record_is_an_error(name):
    """A3: one byte short is an error, not a shorter file."""
    with pytest.raises(BadFileError):
        read(FILES[name][:-1])


def test_sync_markers_between_records_are_passed_over():
    """A3: Hadoop writes one every 100 KB; one that is not the file's is an error."""
    content = gzip.decompress(SYNCED.with_name("synced.gz").read_bytes())
    assert content.count(b"\xff\xff\xff\xff") > 1
    assert read(content) == (list(range(1_200)), [b"%0200d" % n for n in range(1_200)])
    at = content.index(b"\xff\xff\xff\xff") + 7
    for place in (at - 3, at + 5):
        with pytest.raises(BadFileError, match=r"the sync marker before byte \d+ is not the file's"):
            read(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("BLOCK")])
def test_a_sync_marker_that_is_not_the_files_is_an_error(name):
    """A3: what follows it may be of another file."""
    content = FILES[name]
    at = content.index(b"\xff\xff\xff\xff") + 4
    with pytest.raises(BadFileError, match=r"the sync marker before byte \d+ is not the file's"):
        read(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


@given(
    name=st.sampled_from(sorted(FILES)),
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=4),
    kept=st.floats(0, 1),
    added=st.binary(max_size=40),
)
def test_damage_gives_records_or_an_error(name, places, kept, added):
    """B2: whatever the bytes are: records, or an error that says what is wrong; never another exception, never a hang."""
    content = bytearray(FILES[name])
    for place, byte in places:
        content[int(place * len(content))] = byte
    damaged = bytes(content[: round(kept * len(content))]) + added
    with contextlib.suppress(BadFileError):
        offsets, values = read(damaged)
        assert len(offsets) == len(values)


@pytest.mark.parametrize("name", FILES)
def test_damage_is_placed(name):
    """B2: whoever looks for what is wrong in a file of gigabytes is told where it is, inside of what is compressed, too."""
    content, found = FILES[name], set[str]()
    first = content.index(b"\xff\xff\xff\xff") if name.startswith("BLOCK") else 200
    for at in range(first, len(content), 1 + len(content) // 60):
        damaged = content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
        try:
            read(damaged)
        except BadFileError as error:
            found.add(str(error))
    assert found
    assert [message for message in found if not re.search(r"(at|before) byte \d+", message)] == []


@given(st.binary(max_size=200))
def test_anything_else_is_no_sequence_file(content):
    """B2: it is refused by its first bytes."""
    with pytest.raises(BadFileError):
        read(content)
