"""Names from templates, MSK's and Lenses' among them; and JSON envelopes."""

import gzip
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified import (
    Archive,
    ConfigError,
    CorruptArchiveError,
    DeadLetter,
    JsonEnvelope,
    SequenceFiles,
    Template,
    TopicPartition,
    ValueLines,
    find_late_files,
    lenses,
    msk_delivery,
)
from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.layout import Completeness, FileName, Format, Layout

TOPICS = st.from_regex(r"[a-zA-Z0-9._-]{1,20}", fullmatch=True).filter(lambda name: name not in {".", ".."})
SEQUENCE = SequenceFiles()
TEXTS = ValueLines()


@given(TOPICS, st.integers(0, 10_000), st.integers(0, 2**63 - 2), st.integers(1, 1_000), st.sampled_from([0, 20]))
def test_names_are_read_as_they_were_made(topic, partition, start, count, pad):
    """A3: whatever the topic is called and however offsets are padded; numbers are compared as numbers."""
    last = min(start + count, 2**63 - 2)
    template = Template("{**}/{topic}-{partition}-{start}-{last}.seq", SEQUENCE)
    path = f"a/b=c/{topic}-{partition}-{start:0{pad}d}-{last:0{pad}d}.seq"
    assert template.parse(topic, path) == FileName(partition=partition, start=start, stop=last + 1)
    assert template.parse(topic, path + ".tmp") is None
    assert template.parse(f"{topic}x", path) is None
    assert isinstance(template, Layout)


def test_a_folder_is_what_is_fixed():
    """R3: no more is listed than must be."""
    for names, folder in (
        ("a/{topic}/p={partition}/{start}", "a/pins"),
        ("{*}/{topic}/{partition}/{start}", ""),
        ("x/y-{topic}-{partition}-{start}", "x"),
    ):
        assert Template(names, SEQUENCE).folder("pins") == folder


@pytest.mark.parametrize(
    ("times", "bounds"), [(None, (None, None)), ("kafka", (1_794_812_400_000, 1_794_812_400_000 + 3_599_999))]
)
def test_times_of_folders_are_used_where_they_are_kafkas(times, bounds):
    """R6: the time of writing says nothing about records."""
    template = Template(
        "{topic}/{year}/{month}/{day}/{hour}/{partition}_{start}", SequenceFiles("message_pack"), times=times
    )
    found = template.parse("pins", "pins/2026/11/16/07/0_5")
    assert found is not None
    assert (found.min_timestamp, found.max_timestamp) == bounds


@pytest.mark.rule("A3", "B2")
@pytest.mark.parametrize(
    "names",
    [
        "date={year}-{month}-{day}/{*}-{*}.log.gz",  # Vector
        "{topic}/{year}/{month}/{day}/{*}",  # Fluent Bit
        "{topic}/{partition}/{*}",
        "{topic}/{start}",
    ],
)
def test_names_without_offsets_are_refused_with_the_reason(names):
    """A3: a handoff by time would lose records or give them twice; what else to do is said."""
    with pytest.raises(ConfigError, match=r"over to Kafka by time only, which loses records.*ArchiveTopic"):
        Template(names, SEQUENCE)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Template("{topic}/{partition}/{offset}", SEQUENCE),
        lambda: Template("{partition}/{start}", SEQUENCE),
        lambda: Template("{topic}/{partition}/{start}", SEQUENCE, topic="pins"),
        lambda: Template("{topic}/{partition}/{start}", SequenceFiles),  # type: ignore[arg-type]
        lambda: Template("{topic}/{partition}/{start}", SEQUENCE, times="folder"),
        lambda: Template("{topic}/{partition}/{start}", SEQUENCE, dense=True),
        lambda: Template("{topic}/{partition}/{start}", TEXTS),
        lambda: Template("{topic}/{partition}/{last}", TEXTS, dense=True),
        lambda: Template(
            "{topic}/{partition}/{start}",
            TEXTS,
            dense=True,
            completeness=Completeness(max_hole=3, isolation_level="read_committed"),
        ),
        lambda: msk_delivery(TEXTS, template="!{topic-name}/!{partition-id}/!{sequence-number}", dense=True),
        lambda: ValueLines("lz4"),  # type: ignore[arg-type]
        lambda: ValueLines(separator=b""),
        lambda: msk_delivery(TEXTS, template="!{topic}/!{partition-id}/!{kafka-offset}", dense=True),
    ],
)
def test_what_cannot_work_is_refused(wrong):
    """B2: when the layout is made."""
    with pytest.raises(ConfigError):
        wrong()


def test_the_default_names_of_msk():
    """A3: the example of AWS's documentation, and a template of a user's own; an identifier is appended to both."""
    topic = "kafka-topic-49be6b2117ae746bd1ec6d17be0640cd"
    path = f"8309b825-8a2c-2/{topic}/year=2026/month=07/day=14/hour=00/{topic}+3+000000000000000042-000000-105a4e6efaa"
    assert msk_delivery(TEXTS, dense=True).parse(topic, path) == FileName(partition=3, start=42)
    own = msk_delivery(TEXTS, template="topic=!{topic-name}/!{partition-id}/!{kafka-offset}", dense=True)
    assert own.parse("pins", "topic=pins/3/42-000000-105a4e6efaa") == FileName(partition=3, start=42)
    assert own.folder("pins") == "topic=pins"


def write(root, path, lines, *, compressed=False):
    content = "".join(f"{line}\n" for line in lines).encode()
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(content) if compressed else content)


def read(archive, tp):
    log, found, at = archive.connect(), [], 0
    while (flush := log.index(tp).covering(at)) is not None:
        reader = log.open(tp, flush, at)
        while (batch := reader.read(2)) is not None:
            found += batch.records()
        at = reader.stop
    return found


@pytest.mark.rule("A3")
@pytest.mark.parametrize("compressed", [False, True])
def test_dense_files_are_numbered_from_their_start(tmp_path, compressed):
    """A3: record n is at start + n, in every file of the partition."""
    for start, values in ((0, "abc"), (3, "de"), (5, "f")):
        path = f"c/pins/year=2026/month=07/day=14/hour=00/pins+0+{start:018d}-000000-1"
        write(tmp_path, path, values, compressed=compressed)
    lines = ValueLines("gzip" if compressed else "none")
    archive = Archive(str(tmp_path), layout=msk_delivery(lines, dense=True))
    found = read(archive, TopicPartition("pins", 0))
    assert [(one.offset, one.value) for one in found] == list(enumerate([b"a", b"b", b"c", b"d", b"e", b"f"]))


@pytest.mark.rule("A3")
@pytest.mark.parametrize(("values", "said"), [("d", "holds 1 records"), ("def", "holds more than 2 records")])
def test_a_file_whose_records_do_not_reach_the_next_one_is_an_error(tmp_path, values, said):
    """A3: which record has which offset is not known then, whatever the user has said."""
    for start, lines in ((0, "abc"), (3, values), (5, "f")):
        write(tmp_path, f"c/pins/year=2026/month=07/day=14/hour=00/pins+0+{start:018d}-000000-1", lines)
    archive = Archive(str(tmp_path), layout=msk_delivery(TEXTS, dense=True))
    with pytest.raises(CorruptArchiveError, match=said):
        read(archive, TopicPartition("pins", 0))


def envelope(offset, **other):
    metadata = {"offset": offset, "partition": 0, "timestamp": 1_000 + offset, "topic": "pins"}
    return json.dumps(
        {"key": f"k{offset}", "value": {"n": offset}, "headers": {"h": "1"}, "metadata": metadata, **other}
    )


@pytest.mark.rule("A3")
@pytest.mark.parametrize("compressed", [False, True])
def test_envelopes_of_lenses(tmp_path, compressed):
    """A3: ends by names, offsets by records; the first file begins where its first record is."""
    for first, last in ((5, 7), (8, 8), (9, 12)):
        lines = [envelope(offset) for offset in range(first, last + 1)]
        write(tmp_path, f"kafka/pins/0/{last:012d}_{1000 + first}_{1000 + last}.json", lines, compressed=compressed)
    write(
        tmp_path,
        "kafka/pins/1/000000000001_1000_1001.json",
        [envelope(0, value=None), envelope(1, value="text")],
        compressed=compressed,
    )
    archive = Archive(str(tmp_path), layout=lenses(JsonEnvelope("gzip" if compressed else None), prefix="kafka/"))
    log, tp = archive.connect(), TopicPartition("pins", 0)
    assert [(f.start, f.stop, f.min_timestamp, f.max_timestamp) for f in log.index(tp)] == [
        (5, 8, 1005, 1007),
        (8, 9, 1008, 1008),
        (9, 13, 1009, 1012),
    ]
    (flush, *_) = log.index(tp)
    batch = log.open(tp, flush, 6).read(10)
    assert batch is not None
    assert [(*one[:2], one.headers, one.offset, one.timestamp) for one in batch.records()] == [
        (b"k%d" % n, b'{"n": %d}' % n, (("h", b"1"),), n, 1_000 + n) for n in (6, 7)
    ]
    assert [one.value for one in read(archive, TopicPartition("pins", 1))] == [None, b"text"]


@given(st.lists(st.one_of(st.binary(max_size=60), st.integers(0, 9).map(lambda n: envelope(n).encode())), max_size=5))
def test_any_lines_give_records_or_an_error(lines):
    """B2: never another exception."""
    content = b"\n".join(lines)
    assert isinstance(JsonEnvelope(), Format)
    try:
        found = [
            offset
            for columns in JsonEnvelope().read(pa.BufferReader(content), len(content))
            for offset in columns.offsets or ()
        ]
    except BadFileError:
        return
    assert len(found) == sum(1 for line in content.split(b"\n") if line)


@given(st.binary(max_size=60))
def test_damaged_gzip_is_an_error(content):
    """B2: what is no gzip is named as such."""
    whole = gzip.compress((envelope(1) + "\n").encode())
    for damaged in (content[:40] + b"x", whole[:-9], whole[:15] + b"\xff" + whole[16:]):
        with pytest.raises(BadFileError):
            list(JsonEnvelope("gzip").read(pa.BufferReader(damaged), len(damaged)))


@pytest.mark.rule("A3", "A4")
def test_a_name_that_reaches_over_a_gap_is_no_late_file(tmp_path):
    """A4: a worker that has not read the files yet looks into them; what has landed is told of, and no more."""

    def lands(*offsets):
        write(tmp_path, f"pins/0/{offsets[0]:06d}.json", [envelope(offset) for offset in offsets])

    for offsets in ((0, 1, 2), (3, 4), (9,), (10, 11)):
        lands(*offsets)
    layout = Template("{topic}/{partition}/{start}.json", JsonEnvelope())
    archive, gaps = Archive(str(tmp_path), layout=layout), [DeadLetter("pins", 0, 5, 9, "gap", "", None)]
    assert archive.connect().index(TopicPartition("pins", 0)).covering(5) is not None
    assert find_late_files(archive, gaps) == ()
    lands(7)
    (late,) = find_late_files(archive, gaps)
    assert (late.skipped, late.path) == (((7, 8),), f"{tmp_path.as_posix()}/pins/0/000007.json")
