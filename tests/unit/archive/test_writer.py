"""Writing a flush: what is refused, what is written, in which order."""

import pyarrow.parquet as pq
import pytest

from beam_unified.archive.archive import Archive
from beam_unified.archive.writer import write_flush
from beam_unified.errors import ConfigError
from beam_unified.offsets import TopicPartition
from tests.unit.archive.folders import HOUR_MS, T0, TP, read, record


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([record(1), record(0)], {}, "offset order"),
        ([record(1), record(1)], {}, "offset order"),
        ([record(0)], {"start": 1}, r"outside of the flush \[1, 9\)"),
        ([record(9)], {}, r"outside of the flush \[0, 9\)"),
        ([record(0, tp=TopicPartition("needles", 3))], {}, r"offset 0 is one of needles\[3\]"),
        ([record(0, tp=TopicPartition("pins", 4))], {}, r"offset 0 is one of pins\[4\]"),
        ([], {"start": 9}, "at least one offset"),
        ([], {"start": 10}, "start <= stop"),
        ([record(0)], {"isolation_level": "serializable"}, "isolation_level is one of"),
        ([record(0)], {"max_rows_per_part": 0}, "max_rows_per_part is at least 1"),
    ],
)
def test_what_would_be_a_wrong_flush_is_refused(failing, records, options, message):
    """Before anything is written."""
    with pytest.raises(ValueError, match=message):
        write_flush(Archive("failing://logs"), TP, records, **{"start": 0, "stop": 9, **options})
    assert failing.calls == []


@pytest.mark.parametrize("tp", [TopicPartition("a/b", 0), TopicPartition("pins", -1)])
def test_partitions_without_a_name_are_refused(failing, tp):
    """Before anything is written."""
    with pytest.raises((ConfigError, ValueError), match=r"not negative|Kafka allows"):
        write_flush(Archive("failing://logs"), tp, [], start=0, stop=1)
    assert failing.calls == []


@pytest.mark.rule("A1")
def test_the_commit_object_comes_last(failing):
    """A flush that is half there has none."""
    records = [record(n, T0 + n * HOUR_MS) for n in range(4)]
    commit = write_flush(Archive("failing://logs"), TP, records, start=0, stop=4)
    written = [path for method, path in failing.calls if method == "pipe_file"]
    assert ["/_commits/" in path for path in written] == [False] * len(commit.parts) + [True]


@pytest.mark.rule("A1")
@pytest.mark.parametrize("failing_write", range(5))
def test_a_writer_that_dies_leaves_no_flush(failing, monkeypatch, failing_write):
    """At any write; and whoever comes after it finishes the job."""
    archive = Archive("failing://logs")
    records = [record(n, T0 + n * HOUR_MS) for n in range(4)]
    plain, count = failing.pipe_file, iter(range(100))

    def dies(self, path, value, **kwargs):
        if next(count) == failing_write:
            raise KeyboardInterrupt
        plain(self, path, value, **kwargs)

    monkeypatch.setattr(failing, "pipe_file", dies)
    with pytest.raises(KeyboardInterrupt):
        write_flush(archive, TP, records, start=0, stop=4)
    assert len(archive.connect().index(TP)) == 0
    write_flush(archive, TP, records, start=0, stop=4)
    assert read(archive) == records


@pytest.mark.rule("A1")
def test_a_retry_writes_the_same_bytes_under_the_same_names(root):
    """So that two writers of one range are one."""
    archive = Archive(root)
    records = [record(n, T0 + n % 3 * HOUR_MS)._replace(key=b"k", headers=(("a", b"1"),)) for n in range(20)]

    def written():
        write_flush(archive, TP, iter(records), start=0, stop=20)
        files, path = archive.file_system()
        return {name: files.cat_file(name) for name in files.find(path)}

    first = written()
    assert len(first) == 4
    assert written() == first


@pytest.mark.rule("A1")
def test_parts_are_cut_at_hours_and_at_the_limit(root):
    """Numbered over the whole flush, hours ascending, records without a time last."""
    records = [record(0, T0 + HOUR_MS), record(1, T0), record(2, None), record(3, T0), record(4, T0)]
    commit = write_flush(Archive(root), TP, records, start=0, stop=7, max_rows_per_part=2)
    folders = [part.path.rpartition("/")[0] for part in commit.parts]
    null = "__HIVE_DEFAULT_PARTITION__"
    assert folders == ["dt=2026-11-16/hr=12"] * 2 + ["dt=2026-11-16/hr=13", f"dt={null}/hr={null}"]
    assert [part.path.rpartition("-")[2] for part in commit.parts] == [f"{n}of4.parquet" for n in (1, 2, 3, 4)]
    assert [part.rows for part in commit.parts] == [2, 1, 1, 1]
    assert read(Archive(root), max_records=1) == records


def test_any_iterable_will_do(root):
    """A generator is not an empty flush."""
    records = [record(n) for n in range(3)]
    write_flush(Archive(root), TP, (one for one in records), start=0, stop=3)
    assert read(Archive(root)) == records


def test_row_groups_of_large_records_are_shorter(root, monkeypatch):
    """Whoever reads one holds it in memory."""
    monkeypatch.setattr("beam_unified.archive.writer._ROW_GROUP_BYTES", 10_000)
    archive = Archive(root)
    records = [record(n)._replace(value=bytes([n]) * 1_000) for n in range(40)]
    commit = write_flush(archive, TP, records, start=0, stop=40)
    files, path = archive.file_system()
    with files.open(f"{path}/pins/{commit.parts[0].path}") as file:
        assert pq.ParquetFile(file).num_row_groups >= 4
    assert read(archive) == records
