"""Flushes that are not what their commit says: each is an error that names path, topic, partition and offsets."""

import pyarrow as pa
import pytest

from beam_unified.archive import reader
from beam_unified.archive.archive import Archive
from beam_unified.archive.rows import table_of
from beam_unified.archive.storage import Storage
from beam_unified.archive.writer import write_flush
from beam_unified.errors import ArchiveUnavailableError, CorruptArchiveError, StoreError
from beam_unified.offsets import TopicPartition
from tests.unit.archive.folders import HOUR_MS, T0, TP, read, record


@pytest.fixture(autouse=True, params=["whole", "piece by piece"])
def fetching(request, monkeypatch):
    """Every test with files that are fetched whole, and with files that are too large for that."""
    if request.param == "piece by piece":
        monkeypatch.setattr(reader, "_WHOLE_FILE_BYTES", 0)


def refused(broken, message, offset=100):
    """Reading raises, and the text names everything."""
    with pytest.raises(CorruptArchiveError, match=message) as caught:
        read(broken.archive, offset)
    text = str(caught.value)
    assert "pins[3]" in text
    assert "offsets 100 to 111" in text
    assert "remove the flush's commit object" in text
    assert any(part.path in text for part in broken.commit.parts)


def test_the_flush_is_good_before_it_is_broken(broken):
    """What the tests below damage."""
    assert read(broken.archive, 100) == broken.records


@pytest.mark.rule("B2")
@pytest.mark.parametrize("content", [b"", b"PAR1", b"x" * 10_000])
def test_truncated_or_replaced(broken, content):
    """By size, before a byte of it is believed."""
    broken.files.pipe_file(broken.paths[0], content)
    refused(broken, rf"1of2\.parquet has {len(content)} bytes, its commit says \d+: it was truncated or replaced")


@pytest.mark.rule("B2")
@pytest.mark.parametrize("start", [100, 111])
def test_missing(broken, start):
    """Also where none of its records are wanted: the first read would not notice, the next run would."""
    broken.files.rm_file(broken.paths[1])
    refused(broken, r"2of2\.parquet is missing, although its flush is committed", start)


@pytest.mark.rule("B2")
def test_not_parquet(broken):
    """Of the right size, but not Parquet."""
    size = broken.commit.parts[0].size_bytes
    broken.files.pipe_file(broken.paths[0], b"x" * size)
    refused(broken, r"1of2\.parquet is not a readable Parquet file")


@pytest.mark.rule("B2")
@pytest.mark.parametrize("other", [TopicPartition("needles", 3), TopicPartition("pins", 4)])
def test_of_another_topic_or_partition(broken, other):
    """The file itself says whose it is."""
    rows = [one._replace(topic=other.topic, partition=other.partition) for one in broken.records[::2]]
    broken.replace(0, table_of(other, rows))
    refused(broken, rf"1of2\.parquet is a file of {other.topic}\[{other.partition}\]")


@pytest.mark.rule("B2")
def test_of_no_topic(broken):
    """Parquet of somebody else."""
    broken.edit_rows(0, lambda table: table.replace_schema_metadata(None))
    refused(broken, r"1of2\.parquet has schema version \?")


@pytest.mark.rule("B2")
def test_of_another_schema(broken):
    """A column less."""
    broken.edit_rows(0, lambda table: table.drop_columns(["key"]))
    refused(broken, r"1of2\.parquet has another schema: offset, timestamp")


@pytest.mark.rule("B2")
@pytest.mark.parametrize("edit", [lambda table: table.slice(1), lambda table: pa.concat_tables([table, table])])
def test_rows_lost_or_added(broken, edit):
    """By the commit's number of rows."""
    broken.edit_rows(0, edit)
    refused(broken, r"1of2\.parquet has \d+ rows, its commit says 5")


@pytest.mark.rule("R1", "B2")
@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4], [0, 1, 3, 2, 4], [4, 3, 2, 1, 0], [0, 1, 2, 2, 4], [0, 0, 1, 2, 3]])
@pytest.mark.parametrize("start", [100, 103, 106])
def test_rows_out_of_order_or_twice(broken, order, start):
    """Never a record lost or doubled without a word, wherever the flush is opened: all of it, or an error."""
    broken.edit_rows(0, lambda table: table.take(pa.array(order)))
    try:
        found = read(broken.archive, start)
    except CorruptArchiveError as error:
        assert "out of order" in str(error)  # noqa: PT017 - of rows that are skipped by statistics nobody hears
    else:
        assert found == [one for one in broken.records if one.offset >= start]


@pytest.mark.rule("R1", "B2")
@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("offset", [99, 112])
def test_rows_outside_of_the_flush(broken, offset, statistics):
    """They would be another flush's records, read twice."""
    offsets = sorted([offset, 102, 104, 106, 108])
    broken.edit_rows(
        0,
        lambda table: table.set_column(0, table.schema.field(0), pa.array(offsets, pa.int64())),
        write_statistics=statistics,
    )
    refused(broken, r"1of2\.parquet holds offsets .*outside of its flush")


@pytest.mark.rule("R1", "B2")
def test_the_same_offset_in_two_parts(broken):
    """Each part is in order by itself; together they would give a record twice."""
    offsets = [101, 102, 104, 106, 108]
    broken.edit_rows(0, lambda table: table.set_column(0, table.schema.field(0), pa.array(offsets, pa.int64())))
    refused(broken, r"two parts of the flush .* hold the same offset, near 101")


@pytest.mark.rule("B2")
def test_unknown_timestamp_type(broken):
    """A Python error in the middle of a batch would name nothing."""
    broken.edit_rows(
        0, lambda table: table.set_column(2, table.schema.field(2), pa.array([0, 1, 7, None, 0], pa.int8()))
    )
    refused(broken, r"1of2\.parquet cannot be decoded \(it holds the timestamp type 7\)")


@pytest.mark.rule("B2")
def test_text_that_is_none(broken):
    """Names of headers are text; one that is not would be a Python error in the middle of a batch."""

    def edit(table):
        text = pa.array([b"\xff"]).view(pa.string())
        pairs = pa.StructArray.from_arrays([text, pa.array([b"1"])], fields=list(table.schema.field(5).type.value_type))
        rows = pa.ListArray.from_arrays(pa.array([0, 1, 1, 1, 1, 1], pa.int32()), pairs)
        return table.set_column(5, table.schema.field(5), rows.cast(table.schema.field(5).type))

    broken.edit_rows(0, edit)
    refused(broken, r"1of2\.parquet cannot be decoded \(.*UTF8")


def test_files_are_closed_where_another_one_is_broken(broken, monkeypatch):
    """Nothing is left open by a flush that cannot be read."""
    opened, plain = [], Storage.open

    def open_(storage, path):
        opened.append(plain(storage, path))
        return opened[-1]

    monkeypatch.setattr(Storage, "open", open_)
    monkeypatch.setattr(reader, "_WHOLE_FILE_BYTES", 0)
    broken.edit_rows(1, lambda table: table.slice(1))
    refused(broken, "has 4 rows")
    assert [file.closed for file, _ in opened] == [True, True]


@pytest.mark.rule("B2")
@pytest.mark.parametrize("content", [b"", b"{}", b"not json"])
def test_a_commit_object_that_is_none(broken, content):
    """Its name counts, so that no gap is made up; opening it says what is wrong."""
    broken.files.pipe_file(broken.commit_path, content)
    with pytest.raises(CorruptArchiveError, match=r"pins\[3\]: .*_commits/3/0+100-0+112-.*is not a commit object"):
        read(broken.archive)


@pytest.mark.rule("B2")
@pytest.mark.parametrize("changes", [{"topic": "needles"}, {"min_timestamp_ms": 0}])
def test_a_commit_object_that_was_copied(broken, changes):
    """Name and content must agree."""
    broken.edit_commit(lambda document: document.update(changes))
    with pytest.raises(CorruptArchiveError, match=r"_commits/3/.*is the commit of .* it was copied or renamed"):
        read(broken.archive)


@pytest.mark.rule("B2")
def test_any_byte_may_be_damaged(broken):
    """Records or our error: never a crash, never an error of a library."""
    good = broken.files.cat_file(broken.paths[0])
    for at in range(0, len(good), 7):
        broken.files.pipe_file(broken.paths[0], good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
        try:
            found = read(broken.archive, 104)
        except StoreError as error:
            assert broken.commit.parts[0].path in str(error)  # noqa: PT017 - most of the bytes do not raise
        else:
            assert all(one.offset >= 104 for one in found)


@pytest.mark.rule("B2")
def test_a_lost_connection_is_not_a_corrupt_file(failing, monkeypatch):
    """Somebody would restore a file that is good: in the middle of a file, too, it is the storage that is named."""
    monkeypatch.setattr(reader, "_WHOLE_FILE_BYTES", 0)
    archive = Archive("failing://logs")
    records = [record(n)._replace(value=bytes((n * 7 + i * n) % 251 for i in range(3_000))) for n in range(50)]
    write_flush(archive, TP, records, start=0, stop=50)
    assert read(archive) == records
    failing.failures["read"] = ConnectionResetError("reset by peer")
    with pytest.raises(ArchiveUnavailableError, match=r"failing://logs/pins/dt=.*reset by peer"):
        read(archive)


def test_parts_that_are_too_many_for_memory_are_read_piece_by_piece(failing, monkeypatch):
    """The smallest are fetched whole, as far as the budget goes; what comes out is the same."""
    archive = Archive("failing://logs")
    records = [record(n, T0 + n % 5 * HOUR_MS) for n in range(100)]
    commit = write_flush(archive, TP, records, start=0, stop=100)
    monkeypatch.setattr(reader, "_WHOLE_FILE_BYTES", 1_000_000)
    monkeypatch.setattr(reader, "_WHOLE_FILES_BYTES", sum(sorted(part.size_bytes for part in commit.parts)[:2]))
    failing.calls.clear()
    assert read(archive, 50) == records[50:]
    fetched = [path for method, path in failing.calls if method == "cat_file" and path.endswith(".parquet")]
    assert (len(fetched), len([1 for method, _ in failing.calls if method == "open"])) == (2, 3)


def test_batches_are_smaller_where_records_are_large(root, monkeypatch):
    """Memory is bounded by bytes, not by rows alone."""
    monkeypatch.setattr(reader, "_BATCHES_BYTES", 10_000)
    archive = Archive(root)
    records = [record(n)._replace(value=n.to_bytes(2, "big") * 500) for n in range(100)]
    write_flush(archive, TP, records, start=0, stop=100)
    log = archive.connect()
    opened = log.open(TP, next(iter(log.index(TP))), 0)
    sizes = []
    while (batch := opened.read(1_000)) is not None:
        sizes.append(len(batch))
    assert sum(sizes) == 100
    assert max(sizes) <= 20


def test_row_groups_before_the_offset_are_not_decoded(root, monkeypatch):
    """Opening near the end of a large file does not read it all."""
    monkeypatch.setattr("beam_unified.archive.writer._ROW_GROUP_ROWS", 10)
    archive, decoded = Archive(root), []
    monkeypatch.setattr(reader, "check_values", lambda rows: decoded.append(rows.num_rows))
    records = [record(n) for n in range(100)]
    write_flush(archive, TP, records, start=0, stop=100)
    assert read(archive, 85) == records[85:]
    assert sum(decoded) == 20
    assert read(archive, 100) == []
