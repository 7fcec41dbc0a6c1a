"""Offsets of files that hold none: counted where it is shown that they can be, and an error that names the file elsewhere."""

import base64
import gzip
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.archive.archive import Archive
from beam_unified.archive.foreign.aiven import Aiven
from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.confluent import Confluent
from beam_unified.archive.foreign.confluent_names import HOURLY, FieldPartitioner
from beam_unified.archive.foreign.coverage import Tags, numbered, parse_tags
from beam_unified.archive.foreign.layout import Completeness
from beam_unified.archive.storage import Storage
from beam_unified.errors import ConfigError, CorruptArchiveError
from beam_unified.offsets import TopicPartition

TP = TopicPartition("pins", 0)
WRONG: Any = "wrong"
DENSE = Confluent(format="json", dense=True)
TAGGED = Confluent(format="json", ends="tags")
BY_TIME = "{{topic}}/{{timestamp:unit=HH}}/{{partition}}-{{start_offset}}"
HOLES = Completeness(max_hole=1, isolation_level="read_committed", finished=True)
NAMED = Confluent(format="json", ends="names")


@pytest.fixture
def folder(tmp_path):
    return Folder(str(tmp_path), tmp_path)


@dataclass
class Folder:
    """A local archive, and the tags that its objects would have."""

    root: str
    path: Path
    tags: dict[str, dict[str, str]] = field(default_factory=dict)

    def put(self, name, offsets, *, folders="partition=0"):
        """A file of these offsets, as JSON, whose values are the offsets."""
        file = self.path / "topics" / "pins" / folders / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"".join(b"%d\n" % offset for offset in offsets))
        self.tags[f"topics/pins/{folders}/{name}"] = {
            "startOffset": str(offsets[0]), "endOffset": str(offsets[-1]), "recordCount": str(len(offsets)),
        }  # fmt: skip

    def read(self, layout):
        """Offsets and values, flush by flush."""
        log = Archive(self.root, layout=layout).connect()
        found = []
        for flush in log.index(TP, refresh=True):
            reader = log.open(TP, flush, flush.start)
            while (batch := reader.read(7)) is not None:
                found += [(record.offset, record.value) for record in batch.records()]
        return found


def all_of(*offsets):
    return [(offset, b"%d" % offset) for offset in offsets]


@pytest.fixture
def tags(folder, monkeypatch):
    """A local disk has no tags; these are."""
    monkeypatch.setattr(Storage, "tags", lambda self, path: folder.tags.get(path, {}))
    return folder.tags


@pytest.mark.rule("R1")
def test_files_that_follow_one_another_are_counted(folder):
    """A3: by what the user says, each reaches the next one's start."""
    folder.put("pins+0+0000000000.json", range(10))
    folder.put("pins+0+0000000010.json", range(10, 15))
    assert folder.read(DENSE) == all_of(*range(15))


@pytest.mark.rule("R1")
@pytest.mark.parametrize("first", [[0, 1, 2, 4], [0, 1, 2, 3, 4, 5]])
def test_a_count_that_contradicts_the_next_file_is_an_error(folder, first):
    """A3: a hole, or an offset twice: no offset is guessed, the file is named."""
    folder.put("pins+0+0000000000.json", first)
    folder.put("pins+0+0000000005.json", range(5, 8))
    with pytest.raises(CorruptArchiveError, match=r"pins\+0\+0000000000.json.*covers offsets 0 to 4"):
        folder.read(DENSE)


@pytest.mark.rule("R1")
def test_names_of_the_hdfs_sink_are_inclusive_and_checked(folder):
    """A3: the last offset is in the name; the rows must be as many."""
    folder.put("pins+0+0000000000+0000000009.json", range(10))
    folder.put("pins+0+0000000010+0000000011.json", range(10, 12))
    assert folder.read(NAMED) == all_of(*range(12))
    folder.put("pins+0+0000000012+0000000015.json", [12, 14, 15])
    with pytest.raises(CorruptArchiveError, match=r"pins\+0\+0000000012\+0000000015.json.*3 records"):
        folder.read(NAMED)


@pytest.mark.rule("R1")
def test_folders_by_time_are_read_where_tags_show_that_they_do_not_interleave(folder, tags):
    """A3: an hour after another is fine; two at once are an error that names the file."""
    layout = replace(TAGGED, partitioner=HOURLY)
    hour = "year=2026/month=11/day=16/hour=%02d"
    folder.put("pins+0+0000000000.json", range(10), folders=hour % 7)
    folder.put("pins+0+0000000010.json", range(10, 15), folders=hour % 8)
    assert folder.read(layout) == all_of(*range(15))
    folder.put("pins+0+0000000015.json", [15, 17], folders=hour % 8)
    folder.put("pins+0+0000000016.json", [16, 18], folders=hour % 9)
    with pytest.raises(
        CorruptArchiveError, match=r"hour=0[89]/pins\+0\+000000001[56].json.*2 records for offsets 1[56] to 1[78]"
    ):
        folder.read(layout)


@pytest.mark.rule("R1")
def test_interleaved_folders_that_are_said_to_be_dense_are_found(folder):
    """A3: their numbers do not fit."""
    layout = replace(DENSE, partitioner=FieldPartitioner(("c",)))
    folder.put("pins+0+0000000000.json", [0, 2, 4, 6], folders="c=a")
    folder.put("pins+0+0000000001.json", [1, 3, 5, 7], folders="c=b")
    with pytest.raises(CorruptArchiveError, match="c=a"):
        folder.read(layout)


def test_tags_that_are_not_there_or_not_of_the_file_are_errors(folder, tags):
    """B2: what shows the offsets must be there."""
    folder.put("pins+0+0000000000.json", range(10))
    path = "topics/pins/partition=0/pins+0+0000000000.json"
    tags[path] = {"startOffset": "1", "endOffset": "10", "recordCount": "10"}
    with pytest.raises(CorruptArchiveError, match="begins at offset 1"):
        folder.read(TAGGED)
    del tags[path]
    with pytest.raises(CorruptArchiveError, match="has no tags startOffset"):
        folder.read(TAGGED)


def test_a_file_with_fewer_rows_than_its_tags_say_is_an_error(folder, tags):
    """B2: the tags are not believed either."""
    folder.put("pins+0+0000000000.json", range(10))
    path = "topics/pins/partition=0/pins+0+0000000000.json"
    tags[path] = {"startOffset": "0", "endOffset": "10", "recordCount": "11"}
    with pytest.raises(CorruptArchiveError, match="10 records, but covers offsets 0 to 10"):
        folder.read(TAGGED)


@given(st.lists(st.integers(1, 9), max_size=8), st.integers(0, 100))
def test_rows_are_numbered_without_a_gap(sizes, start):
    """R1: whatever the pieces; one row more or less than the range is an error."""
    batches = [Columns([b"x"] * size) for size in sizes]
    found = [offset for batch in numbered(batches, start, start + sum(sizes)) for offset in batch.offsets or ()]
    assert found == list(range(start, start + sum(sizes)))
    for stop in (start + sum(sizes) + 1, *([start + sum(sizes) - 1] if sizes else [])):
        with pytest.raises(BadFileError):
            list(numbered(batches, start, stop))


@pytest.mark.parametrize(
    "tags",
    [
        {"startOffset": "0"}, {"startOffset": "5", "endOffset": "4", "recordCount": "1"},
        {"startOffset": "-1", "endOffset": "4", "recordCount": "1"},
        {"startOffset": "0", "endOffset": "4", "recordCount": "6"}, {"startOffset": "0", "endOffset": "4", "recordCount": "0"},
        {"startOffset": "0", "endOffset": "\u0664", "recordCount": "5"},
    ],
)  # fmt: skip
def test_tags_that_contradict_themselves_are_errors(tags):
    """B2: nothing is made of them."""
    with pytest.raises(BadFileError, match="tags"):
        parse_tags(tags)


def test_tags():
    """A3: a file is dense if it has as many records as offsets."""
    assert parse_tags({"owner": "me"}) is None
    found = parse_tags({"startOffset": "3", "endOffset": "9", "recordCount": "7", "owner": "me"})
    assert found == Tags(start=3, last=9, records=7)
    assert found.dense
    assert not Tags(start=3, last=9, records=6).dense


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Confluent(format="avro"), "dense=True"),
        (lambda: Confluent(format="avro", partitioner=HOURLY), "dense=True"),
        (lambda: Confluent(format="avro", ends="tags", dense=True), "dense=True"),
        (lambda: Confluent(format="avro", dense=True, completeness=HOLES), "some have none"),
        (lambda: Confluent(format=WRONG, dense=True), "format"),
        (lambda: Confluent(format="avro", keys=WRONG, dense=True), "keys"),
        (lambda: Confluent(format="avro", headers="bytes", dense=True), "headers"),
        (lambda: Confluent(format="json", compression=WRONG, dense=True), "compression"),
        (lambda: Confluent(format="bytes", separator=b"", dense=True), "separator"),
        (lambda: Confluent(format="avro", ends=WRONG), "ends"),
        (lambda: Aiven(format="csv"), "dense=True"),
        (lambda: Aiven(format="csv", dense=True, completeness=HOLES), "some have none"),
        (lambda: Aiven(format="csv", template=BY_TIME, dense=True), "by their times"),
        (lambda: Aiven(format="csv", template="{{key}}", fields=("value", "offset")), "by key"),
        (lambda: Aiven(format="csv", fields=("key", "offset")), "value"),
        (lambda: Aiven(format="csv", fields=("value", "offset"), dense=True), "dense=True"),
        (lambda: Aiven(format="csv", fields=("value", "value")), "each once"),
        (lambda: Aiven(format="csv", fields=("value", WRONG)), "fields"),
        (lambda: Aiven(format="jsonl", fields=("value", "offset"), envelope=False), "envelope"),
        (lambda: Aiven(format=WRONG, fields=("value", "offset")), "format"),
        (lambda: Aiven(format="csv", fields=("value", "offset"), folders_by="me"), "folders_by"),
    ],
)  # fmt: skip
def test_options_that_cannot_work_are_refused(make, match):
    """A3: when the pipeline is built; offsets that nothing shows above all."""
    with pytest.raises(ConfigError, match=match):
        make()


@pytest.mark.rule("R1")
def test_aivens_offsets_are_those_in_the_file(tmp_path):
    """A3: with holes, in files by time that share a start, and overlapping ones; each offset once, in order."""
    layout = Aiven(
        format="jsonl",
        fields=("value", "offset"),
        template=BY_TIME,
        completeness=HOLES,
    )
    for path, offsets in (("07/0-0", [0, 1, 3]), ("08/0-0", [2, 5]), ("08/0-5", [5, 6]), ("08/1-0", [0])):
        file = tmp_path / "pins" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"\n".join(json.dumps({"value": n, "offset": n}).encode() for n in offsets))
    assert Folder(str(tmp_path), tmp_path).read(layout) == all_of(0, 1, 2, 3, 5, 6)


@pytest.mark.rule("R1")
def test_aivens_files_without_offsets_are_counted(tmp_path):
    """A3: only as far as the next one's start fits."""
    layout = Aiven(format="csv", dense=True, compression="gzip")

    def put(start, values):
        lines = b"\n".join(base64.b64encode(b"%d" % value) for value in values)
        (tmp_path / f"pins-0-{start}.gz").write_bytes(gzip.compress(lines))

    put(0, range(4))
    put(4, range(4, 6))
    (tmp_path / "pins-x-0-0.gz").write_bytes(b"of another topic")
    assert Folder(str(tmp_path), tmp_path).read(layout) == all_of(*range(6))
    put(0, range(3))
    with pytest.raises(CorruptArchiveError, match=r"pins-0-0.gz.*3 records, but covers offsets 0 to 3"):
        Folder(str(tmp_path), tmp_path).read(layout)
