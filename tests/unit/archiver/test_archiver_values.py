"""Claims and announcements on the wire; the encoder; what the storage creates; upkeep; options."""

import itertools
import json
from datetime import timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_unified import (
    Announced,
    Archive,
    ArchiveTopic,
    Kafka,
    KafkaCommitTopic,
    TopicPartition,
    abandon_claims,
    find_orphans,
    remove_orphans,
)
from beam_unified.archive import layout
from beam_unified.archive.commits import Commit, Part
from beam_unified.archive.writer import write_flush
from beam_unified.archiver import announcements, claims
from beam_unified.archiver.claims import Claim
from beam_unified.archiver.encoder import FlushEncoder
from beam_unified.errors import ConfigError, CorruptArchiveError, DataLossError
from beam_unified.flushes import Flush
from beam_unified.kafka import writing
from beam_unified.records import ListBatch, Record, Store, TimestampType
from beam_unified.testing import InMemoryLog

TP = TopicPartition("pins", 3)
T0 = 1_794_830_400_000
HOUR_MS = 3_600_000


def a_claim(**changes):
    name = layout.PartName(partition=3, start=10, stop=20, part=1, parts=1)
    part = Part(path=layout.part_path(name, T0 // HOUR_MS), size_bytes=5, rows=2)
    flush = Flush(10, 20, T0, T0 + 5)
    commit = Commit(topic="pins", partition=3, flush=flush, isolation_level="read_committed", parts=(part,))
    return Claim(**{"position": 10, "commit": commit, "sha256": ("ab",), "writer": "1 pyarrow 25", **changes})


def test_a_claim_comes_back_as_it_was_written():
    """And the same claim gives the same bytes: a request that is sent again finds its own."""
    assert claims.decode(claims.encode(a_claim()), "here") == a_claim()
    assert claims.encode(a_claim()) == claims.encode(a_claim())


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(claim_version=2), "claim version 2, this release of beam-unified knows 1"),
        (lambda d: d.pop("sha256"), "is not a claim.*abandon_claims"),
        (lambda d: d.update(position=11), "is not a claim.*does not follow position 11"),
        (lambda d: d.update(sha256=[]), "0 digests for 1 parts"),
        (lambda d: d["commit"].update(topic=1), "topic should be str"),
    ],
)
def test_a_damaged_claim_is_an_error_that_says_where(edit, message):
    """Nobody guesses what was claimed."""
    document = json.loads(claims.encode(a_claim()))
    edit(document)
    with pytest.raises(CorruptArchiveError, match=message):
        claims.decode(json.dumps(document).encode(), "pins[3]: s3://x")
    with pytest.raises(CorruptArchiveError, match="is not a claim"):
        claims.decode(claims.encode(a_claim())[:-20], "pins[3]: s3://x")


@pytest.mark.rule("A4")
def test_the_message_of_a_commit():
    """Version 1, as documented, for ever."""
    commit = a_claim().commit
    assert announcements.key_of(commit) == b"pins/3/10-20"
    assert json.loads(announcements.encode(commit)) == {
        "version": 1, "topic": "pins", "partition": 3, "start": 10, "stop": 20, "min_timestamp_ms": T0, "max_timestamp_ms": T0 + 5,
        "isolation_level": "read_committed", "records": 2, "size_bytes": 5,
        "commit": f"pins/_commits/3/{10:020d}-{20:020d}-{T0:020d}-{T0 + 5:020d}.json",
    }  # fmt: skip
    found = announcements.decode(announcements.encode(commit), "here")
    assert (found.tp, found.flush, found.isolation_level) == (TP, commit.flush, "read_committed")


@pytest.mark.rule("A4")
@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"version": 2}', b'{"version": 1, "topic": "a/b"}', b"\xff"])
def test_another_message_is_an_error_that_says_where(value):
    """Never skipped: a flush would be missing."""
    with pytest.raises(CorruptArchiveError, match="commits\\[0\\] offset 7"):
        announcements.decode(value, "commits[0] offset 7")


rows = st.tuples(
    st.sampled_from([0, 1, 5, None, -400_000]), st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=9),
    st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=30)), max_size=2),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(rows, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=4))
def test_files_do_not_depend_on_how_the_records_came(rows, cuts):
    """A2: row groups are cut by the records alone; every record is in the file of its hour, once, in order."""
    found = []
    records = [record(number, *row) for number, row in enumerate(rows)]
    for edges in (cuts[:0], cuts):
        encoder = small_encoder()
        for start, stop in itertools.pairwise([0, *sorted(edges), len(records)]):
            if records[start:stop]:
                encoder.add(ListBatch(records[start:stop], Store.KAFKA))
        encoded = encoder.finish(100, "read_committed")
        tables = [pq.read_table(path).to_pylist() for path in encoded.files]
        found.append((encoded.commit, encoded.sha256))
        encoder.close()
    assert found[0] == found[1]
    for part, table in zip(found[0][0].parts, tables, strict=True):
        name_and_hour = layout.parse_part(part.path)
        assert name_and_hour is not None
        hour = name_and_hour[1]
        wanted = [one for one in records if layout.hour_of(one.timestamp) == hour]
        assert [row["offset"] for row in table] == [one.offset for one in wanted]
        assert [row["value"] for row in table] == [one.value for one in wanted]
        assert [tuple(map(tuple, (pair.values() for pair in row["headers"]))) for row in table] == [
            one.headers for one in wanted
        ]
    assert sum(map(len, tables)) == len(records)


def record(offset, hour, value, key, headers):
    timestamp = None if hour is None else T0 + hour * HOUR_MS + offset
    kind = None if hour is None else TimestampType.CREATE_TIME
    return Record(key, value, tuple(headers), "pins", 3, offset, timestamp, kind, "kafka")


def small_encoder():
    return FlushEncoder(TP, 0, group_rows=4, group_bytes=120)


def test_of_several_creators_one_wins(root):
    """A2: and the content is there as a whole, or not at all; nothing else is left behind."""
    storage = Archive(root).storage()
    assert storage.create("pins/_claims/0/a", b"one")
    assert not storage.create("pins/_claims/0/a", b"other")
    assert storage.get("pins/_claims/0/a") == b"one"
    assert storage.files("pins").keys() == {"_claims/0/a"}
    storage.remove("pins/_claims/0/a")
    storage.remove("pins/_claims/0/a")
    assert storage.create("pins/_claims/0/a", b"third")


@pytest.mark.rule("A2")
def test_orphans_are_what_no_commit_and_no_claim_accounts_for(root):
    """A2: found, removed; committed and claimed parts, and files of others, are left alone."""
    archive, storage = Archive(root), Archive(root).storage()
    write_flush(archive, TP, [record(0, 0, b"v", None, ()), record(1, 5, b"v", None, ())], start=0, stop=10)
    before = set(storage.files("pins"))
    claimed = a_claim().commit.parts[0].path
    orphan = layout.part_path(layout.PartName(partition=3, start=10, stop=25, part=1, parts=1), 0)
    for path, content in ((claimed, b"x"), (orphan, b"x"), ("notes.txt", b"x"), (f"{claimed}x", b"")):
        storage.put(f"pins/{path}", content)
    storage.put(f"pins/_claims/3/{layout.claim_name(10)}", claims.encode(a_claim()))
    assert find_orphans(archive, "pins").paths == (orphan,)
    assert remove_orphans(archive, "pins").paths == (orphan,)
    assert abandon_claims(archive, "pins") == (f"_claims/3/{layout.claim_name(10)}",)
    assert remove_orphans(archive, "pins").paths == (claimed,)
    assert set(storage.files("pins")) == before | {"notes.txt", f"{claimed}x"}


@pytest.mark.rule("A2")
@pytest.mark.parametrize("hours", [[], [0], [1], [0, 1], [None]])
@pytest.mark.parametrize("dead", [[0], [2], [0, 2], [0, 1, 2], [None]])
def test_parts_of_an_abandoned_claim_of_the_same_range_are_orphans(root, hours, dead):
    """A2: whatever its records were, and its hours: what the commit does not name a plain reader would see beside it."""
    archive, storage = Archive(root), Archive(root).storage()
    rows = [record(number, hour, b"v", None, ()) for number, hour in enumerate(hours)]
    names = {part.path for part in write_flush(archive, TP, rows, start=0, stop=10).parts}
    left = set[str]()
    for number, hour in enumerate(dead, start=1):
        name = layout.PartName(partition=3, start=0, stop=10, part=number, parts=len(dead))
        path = layout.part_path(name, None if hour is None else T0 // HOUR_MS + hour)
        storage.put(f"pins/{path}", b"x")
        left.add(path)
    assert set(find_orphans(archive, "pins").paths) == left - names


@pytest.fixture
def root(tmp_path):
    return f"{tmp_path.as_posix()}/archive"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topic": []}, "topic must be"),
        ({"topic": ["a", "a"]}, "topic must be"),
        ({"topic": 3}, "topic must be"),
        ({"flush_records": 0}, "flush_records must be"),
        ({"flush_bytes": True}, "flush_bytes must be"),
        ({"flush_interval": timedelta(0)}, "flush_interval must be"),
        ({"discovery_interval": 5}, "discovery_interval must be"),
        ({"on_gap": "wait"}, "on_gap must be"),
        ({"archive": Archive("ftp://host/x")}, "one of several writers"),
    ],
)
def test_options_that_cannot_work_are_refused(options, message, root):
    """When the pipeline is built, before anybody is asked."""
    given = {"topic": "pins", "kafka": InMemoryLog("pins").kafka, "archive": Archive(root), **options}
    with pytest.raises(ConfigError, match=message):
        ArchiveTopic(given.pop("topic"), given.pop("kafka"), given.pop("archive"), **given)


@pytest.mark.parametrize(("options", "message"), [({"since": "noon"}, "since"), ({"index": "list"}, "index must be")])
def test_options_of_an_announced_archive(options, message, root):
    """When it is made."""
    commits = KafkaCommitTopic(kafka=Kafka("localhost:1"), topic="commits")
    with pytest.raises(ConfigError, match=message):
        Announced(Archive(root), commits, **options)


@pytest.mark.rule("A4")
@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"cleanup.policy": "compact", "retention.ms": "604800000", "retention.bytes": "-1"}, ""),
        ({"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}, ""),
        (
            {"cleanup.policy": "delete", "retention.ms": "5", "retention.bytes": "-1"},
            "cleanup.policy=delete, retention.ms=5",
        ),
        (
            {"cleanup.policy": "compact,delete", "retention.ms": "-1", "retention.bytes": "7"},
            "cleanup.policy=compact,delete, retention.bytes=7",
        ),
    ],
)
def test_which_topics_forget(settings, found):
    """A4: those with a retention, compacted or not; its numbers mean nothing where nothing is deleted."""
    assert writing.forgets(settings) == found


def announced_world(root):
    """Three flushes, announced on a topic in memory."""
    archive, log = Archive(root), InMemoryLog("commits")
    for start in (0, 5, 10):
        log.append(0, announcements.encode(write_flush(archive, TP, [], start=start, stop=start + 5)), timestamp=T0)
    commits: Any = KafkaCommitTopic(kafka=log.kafka, topic="commits")  # type: ignore[arg-type]  # a topic in memory will do
    return archive, log, commits


def starts(source):
    return [flush.start for flush in source.connect().index(TP)]


@pytest.mark.rule("A4")
def test_announcements_that_were_deleted_are_noticed(root):
    """A4: without them the log would seem to begin later. A reader that says since when, or lists as well, knows."""
    archive, log, commits = announced_world(root)
    running = Announced(archive, commits).connect()
    assert [flush.start for flush in running.index(TP)] == [0, 5, 10]
    log.expire(0, 2)
    with pytest.raises(DataLossError, match=r"commits\[0\]: announcements at offsets 0 to 1 were deleted.*since.*both"):
        Announced(archive, commits).connect().index(TP)
    assert starts(Announced(archive, commits, index="both")) == [0, 5, 10]
    assert starts(Announced(archive, commits, since="2000-01-01T00:00:00Z")) == [10]
    for start in (15, 20):
        log.append(0, announcements.encode(write_flush(archive, TP, [], start=start, stop=start + 5)), timestamp=T0)
    log.expire(0, 4)  # beyond what the running one has seen
    with pytest.raises(DataLossError, match="announcements at offsets 3 to 3 were deleted"):
        running.index(TP, refresh=True)


@pytest.mark.rule("A4")
def test_an_announced_flush_that_was_removed_is_an_error_that_says_what_helps(root):
    """A4: running again would not; a listing does not have it."""
    archive, _, commits = announced_world(root)
    storage = archive.storage()
    (path,) = [path for path in storage.files("pins") if layout.commit_name(Flush(0, 5, None, None)) in path]
    storage.remove(f"pins/{path}")
    log = Announced(archive, commits).connect()
    first = next(iter(log.index(TP)))
    for _ in range(2):
        with pytest.raises(
            CorruptArchiveError, match=r"is announced on 'commits' and is not there.*read the Archive alone"
        ):
            log.open(TP, first, 0)
    assert starts(archive) == [5, 10]
