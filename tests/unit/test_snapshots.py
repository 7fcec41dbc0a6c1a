"""Snapshots: what is captured, refused and archived first; the file; what a replay notices."""

import json
import pickle
from pathlib import Path

import apache_beam as beam
import fsspec
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that

from beam_unified import ConfigError, DataLossError, KafkaTimestamp, ReadUnified, Snapshot, Start, Stop, TopicPartition
from beam_unified.archive import pinned
from beam_unified.archive import reader as archive_reader
from beam_unified.archive.archive import ConnectedArchive
from beam_unified.archive.layout import PartName, part_path
from beam_unified.archive.pinning import sha256_of, sha256_of_file
from beam_unified.archive.pins import PinnedFile, PinnedFlush, PinnedPartition
from beam_unified.archive.storage import Storage
from beam_unified.archive.writer import write_flush
from beam_unified.clock import iso
from beam_unified.errors import CorruptArchiveError, KafkaUnavailableError, SnapshotChangedError, UnknownTopicError
from beam_unified.offsets import OffsetRange
from beam_unified.positions import AtOffsets, AtTopicOffsets
from beam_unified.stores import OutOfRange
from beam_unified.testing import (
    InMemoryKafka,
    InMemoryLog,
    InMemoryTopics,
    ManualClock,
    PartitionDigests,
    digests_of,
    same_digests,
)
from tests.snapshot_world import HOUR_MS, NOON_MS, TOPIC, Archived, TaggedFiles, archived, replay
from tests.strategies import without_store

TP = TopicPartition(TOPIC, 0)

pytestmark = pytest.mark.rule("R9")


@pytest.fixture
def tagged(monkeypatch):
    """The file system `tagged://`, empty."""
    fsspec.register_implementation("tagged", TaggedFiles, clobber=True)
    monkeypatch.setattr(TaggedFiles, "store", {})
    monkeypatch.setattr(TaggedFiles, "pseudo_dirs", [""])
    return TaggedFiles


def offsets(records):
    return [record.offset for record in records]


# -- capture


def test_it_pins_ranges_and_every_file_that_serves_them():
    """Commit objects and data files, each with size and fingerprint; the range of every partition."""
    world = archived()
    (found,) = world.capture().partitions
    assert (found.tp, found.offsets) == (TP, OffsetRange(0, 12))
    assert [one.flush.start for one in found.flushes] == [0, 5, 9]
    assert sorted(f"{world.root}/{TOPIC}/{file.path}" for file in found.files()) == world.paths()
    for file in found.files():
        assert file.size_bytes == world.files.size(f"{world.root}/{TOPIC}/{file.path}")
        assert file.kind == "sha256"


@pytest.mark.parametrize(
    ("start", "stop", "offset_range", "flushes"),
    [
        (None, None, (0, 12), [0, 5, 9]),
        (Start.offsets({0: 5}), Stop.offsets({0: 9}), (5, 9), [5]),
        (Start.offsets({0: 4}), Stop.offsets({0: 6}), (4, 6), [0, 5]),
        (Start.at(iso(NOON_MS + HOUR_MS)), Stop.at(iso(NOON_MS + HOUR_MS * 3 // 2)), (6, 9), [5]),
        (Start.offsets({TOPIC: {0: 12}}), Stop.now(), (12, 12), []),
        (Start.latest(), Stop.offsets({0: 3}), (12, 12), []),
    ],
)
def test_start_and_stop_are_resolved_to_offsets(start, stop, offset_range, flushes):
    """As a reader resolves them; only what overlaps is pinned, and a replay gives just that."""
    world = archived()
    snapshot = world.capture(start=start, stop=stop)
    (found,) = snapshot.partitions
    assert (found.offsets.start, found.offsets.stop) == offset_range
    assert [one.flush.start for one in found.flushes] == flushes
    assert snapshot.start() == AtTopicOffsets(((TOPIC, AtOffsets(((0, offset_range[0]),))),))
    assert snapshot.stop() == AtTopicOffsets(((TOPIC, AtOffsets(((0, offset_range[1]),))),))
    assert offsets(replay(snapshot)[TP]) == list(range(*offset_range))


def test_what_only_kafka_holds_is_refused_with_its_ranges():
    """Retention would take it: partition, offsets and both ways out are named, and nothing is written."""
    world = Archived(partitions=2)
    world.produce(12)
    world.produce(3, partition=1)
    world.flush(2, 5)
    world.flush(8, 10)
    before = world.paths()
    with pytest.raises(
        ConfigError,
        match=r"only Kafka holds pins\[0\] offsets 0 to 1, pins\[0\] offsets 5 to 7, pins\[0\] offsets 10 to 11, "
        r"pins\[1\] offsets 0 to 2, .*archive_missing=True.*or wait for the archiver",
    ):
        world.capture()
    assert world.paths() == before


def test_what_only_kafka_holds_is_archived_first_when_asked():
    """Just that; holes and compacted stretches inside; a replay then gives what Kafka would have given."""
    world = Archived(partitions=2)
    world.produce(12)
    world.log.hole(0, 2)
    world.produce(3, partition=1)
    world.flush(2, 5)
    world.flush(8, 10)
    world.log.compact(0, 6, 11)
    expected = [list(without_store(world.log.records(partition))) for partition in (0, 1)]
    before = world.paths()
    snapshot = world.capture(archive_missing=True)
    assert [(one.flush.start, one.flush.stop) for one in snapshot.partitions[0].flushes] == [
        (0, 2),
        (2, 5),
        (5, 8),
        (8, 10),
        (10, 14),
    ]
    world.log.expire(0, 14)
    assert set(before) <= set(world.paths())
    assert [list(without_store(records)) for records in replay(snapshot).values()] == expected


@pytest.mark.parametrize(("limit", "value"), [("_FLUSH_RECORDS", 5), ("_FLUSH_BYTES", 14)])
def test_a_topic_that_was_never_archived_can_be(monkeypatch, limit, value):
    """In flushes small enough for the memory: at most so many records, or bytes, and what one fetch brings."""
    monkeypatch.setattr(f"beam_unified.snapshots.capture.{limit}", value)
    monkeypatch.setattr("beam_unified.snapshots.capture._FETCH_RECORDS", 3)
    world = Archived()
    world.produce(14)
    snapshot = world.capture(archive_missing=True)
    assert [(one.flush.start, one.flush.stop) for one in snapshot.partitions[0].flushes] == [(0, 6), (6, 12), (12, 14)]
    assert offsets(replay(snapshot)[TP]) == list(range(14))


def test_what_neither_store_holds_is_an_error():
    """Now, rather than in a replay years later; also with `archive_missing`."""
    world = archived(flushes=(0, 4))
    world.log.expire(0, 7)
    with pytest.raises(DataLossError, match=r"neither store holds pins\[0\] offsets 4 to 6: restore"):
        world.capture(archive_missing=True)


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        (Stop.at("2999-01-01T00:00:00Z"), r"pins\[0\]: a snapshot stops at what is there already, and 2999-01-01"),
        (Stop.offsets({0: 13}), r"pins\[0\]: stop offset 13 is above the end of the log, offset 12"),
        (Stop.offsets({0: 1, 1: 1}), "stop names partition 1 of topic 'pins'"),
    ],
)
def test_a_stop_that_is_not_there_yet_is_refused(stop, message):
    """A snapshot waits for nothing."""
    with pytest.raises(ConfigError, match=message):
        archived().capture(stop=stop)


def test_retention_that_takes_records_in_the_meantime_is_an_error(monkeypatch):
    """Found out at once; what was archived before stays, and is a whole number of flushes."""
    monkeypatch.setattr("beam_unified.snapshots.capture._FLUSH_RECORDS", 2)
    monkeypatch.setattr("beam_unified.snapshots.capture._FETCH_RECORDS", 2)
    world = archived(flushes=(0, 4))
    world.log.when_asked(0, 8, world.log.expire, 0, 10)
    with pytest.raises(DataLossError, match=r"pins\[0\]: offsets 8 to 9 are in neither store"):
        world.capture(archive_missing=True)
    assert [(flush.start, flush.stop) for flush in world.archive.connect().index(TP)] == [(0, 4), (4, 6), (6, 8)]


def test_a_broker_that_falls_silent_is_an_error(monkeypatch):
    """It says what was archived so far, and does not wait for ever."""
    world, clock = archived(flushes=(0, 4)), ManualClock(NOON_MS * 2)
    world.log.stall(0, fetches=10**9)
    fetch = InMemoryKafka.fetch

    def slow(*args, **kwargs):
        clock.advance(500)
        return fetch(*args, **kwargs)

    monkeypatch.setattr(InMemoryKafka, "fetch", slow)
    with pytest.raises(KafkaUnavailableError, match=r"nothing at offset 4 for 30 s"):
        world.capture(archive_missing=True, clock=clock)
    assert clock.now_ms() == NOON_MS * 2 + 30_500


def test_a_flush_that_lands_during_the_capture_counts(monkeypatch):
    """The archive is listed anew before a range is said to be in Kafka only."""
    world, bounds = archived(flushes=(0, 4)), InMemoryKafka.bounds

    def flushed_meanwhile(kafka, tp):
        if len(world.archive.connect().index(TP)) == 1:
            world.flush(4, 12)
        return bounds(kafka, tp)

    monkeypatch.setattr(InMemoryKafka, "bounds", flushed_meanwhile)
    assert [one.flush.start for one in world.capture().partitions[0].flushes] == [0, 4]


def test_connections_are_given_back(monkeypatch):
    """Also where the capture is refused."""
    closed = list[str]()
    monkeypatch.setattr(InMemoryKafka, "close", lambda _: closed.append("kafka"))
    monkeypatch.setattr(ConnectedArchive, "close", lambda _: closed.append("archive"))
    archived().capture()
    assert closed == ["kafka", "archive"]
    with pytest.raises(ConfigError):
        archived(flushes=(0, 4)).capture()
    assert closed == ["kafka", "archive"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topics": []}, "topics names at least one topic"),
        ({"topics": [TOPIC, TOPIC]}, "topics names at least one topic, and none twice"),
        ({"fingerprint": "md5"}, "fingerprint must be one of None, 'etag', 'sha256', got 'md5'"),
        ({"start": Start.offsets({0: 5}), "stop": Stop.offsets({0: 4})}, "start offset 5 is after stop offset 4"),
    ],
)
def test_options_that_cannot_work(options, message):
    """Refused before a store is asked."""
    world = archived()
    topics = options.pop("topics", TOPIC)
    with pytest.raises(ConfigError, match=message):
        Snapshot.capture(world.log.kafka, world.archive, topics, **options)


@pytest.mark.rule("R4")
def test_every_flush_must_be_of_the_readers_isolation_level():
    """Not only the newest one."""
    world = archived(flushes=(4, 12))
    write_flush(world.archive, TP, world.log.records(0)[:4], start=0, stop=4, isolation_level="read_uncommitted")
    with pytest.raises(ConfigError, match=r"pins\[0\]: .*_commits/0/.*archived as read_uncommitted"):
        world.capture()


def test_a_broken_archive_is_not_captured():
    """A data file that is gone, and a commit object that was renamed, are named."""
    world = archived()
    part = next(path for path in world.paths() if path.endswith(".parquet"))
    world.files.rm_file(part)
    with pytest.raises(
        CorruptArchiveError, match=f"{part.rpartition('/')[2]} is missing, although its flush is committed"
    ):
        world.capture()
    world = archived()
    commit = next(path for path in world.paths() if path.endswith(".json"))
    world.files.mv(commit, commit.replace(f"{0:020d}-{5:020d}", f"{0:020d}-{6:020d}"))
    with pytest.raises(CorruptArchiveError, match="it was copied or renamed"):
        world.capture()


def test_etags_serve_where_the_storage_has_them(tagged):
    """They cost nothing; hashes when asked for; and a storage without ETags says so when they are."""
    world = archived(root="tagged://archive")
    for fingerprint, kind in ((None, "etag"), ("etag", "etag"), ("sha256", "sha256")):
        (found,) = world.capture(fingerprint=fingerprint).partitions
        assert {part.kind for one in found.flushes for part in one.parts} == {kind}
        assert {one.commit.kind for one in found.flushes} == {"sha256"}
    with pytest.raises(ConfigError, match=r"this storage has no ETags\. Capture with fingerprint='sha256'"):
        archived().capture(fingerprint="etag")


# -- the file


def test_a_snapshot_is_saved_and_loaded(tmp_path, monkeypatch):
    """Local paths, path objects, bare names and URLs; a file that a person can read."""
    snapshot = archived().capture()
    monkeypatch.chdir(tmp_path)
    for place in (f"{tmp_path}/a.json", tmp_path / "b" / "c.json", "d.json", f"memory://{tmp_path.name}.json"):
        snapshot.save(place)
        assert Snapshot.load(place) == snapshot
    assert (tmp_path / "d.json").read_bytes() == (tmp_path / "a.json").read_bytes()
    document = json.loads((tmp_path / "d.json").read_text())
    assert document["topics"][TOPIC]["0"]["stop"] == 12
    assert document["format_version"] == 1


def test_taking_it_again_gives_the_same_bytes(tmp_path):
    """Nothing of the moment is in it: version control shows what changed."""
    world = archived()
    for name in ("one", "other"):
        world.capture().save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@pytest.mark.rule("B5")
def test_a_file_of_the_first_release_is_read_for_ever(tmp_path):
    """Bytes as that release wrote them."""
    golden = {
        "format": "beam_unified snapshot",
        "format_version": 1,
        "archive": "s3://bucket/merced",
        "isolation_level": "read_committed",
        "topics": {
            TOPIC: {
                "3": {
                    "start": 1,
                    "stop": 2,
                    "uncommitted": [],
                    "flushes": [
                        {
                            "commit": {"path": COMMIT, "size_bytes": 7, "sha256": "ab"},
                            "parts": [{"path": PART, "size_bytes": 9, "etag": "cd-2"}],
                        }
                    ],
                }
            }
        },
    }
    (tmp_path / "x.json").write_text(json.dumps(golden))
    assert Snapshot.load(tmp_path / "x.json") == Snapshot(
        root="s3://bucket/merced",
        isolation_level="read_committed",
        partitions=(
            PinnedPartition(
                tp=TopicPartition(TOPIC, 3),
                offsets=OffsetRange(1, 2),
                flushes=(
                    PinnedFlush(
                        commit=PinnedFile(path=COMMIT, size_bytes=7, kind="sha256", fingerprint="ab"),
                        parts=(PinnedFile(path=PART, size_bytes=9, kind="etag", fingerprint="cd-2"),),
                    ),
                ),
            ),
        ),
    )


COMMIT = f"_commits/3/{0:020d}-{5:020d}-none-none.json"
PART = part_path(PartName(partition=3, start=0, stop=5, part=1, parts=1), None)


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda d: d.update(format="x"), "is not a snapshot file .*format should be"),
        (lambda d: d.update(format_version=True), "is not a snapshot file .*found bool"),
        (lambda d: d.update(format_version=2), "has format version 2, this release of beam_unified reads 1"),
        (lambda d: d.pop("archive"), "is a damaged snapshot file .*archive should be str"),
        (lambda d: d.update(topics=[]), "is a damaged snapshot file .*topics should be dict"),
        (
            lambda d: d["topics"].update({"../x": d["topics"][TOPIC]}),
            "is a damaged snapshot file .*not a name that Kafka allows",
        ),
        (lambda d: d.update(topics={}), "topics should not be empty"),
        (lambda d: d["topics"].update(pins={}), "pins should not be empty"),
        (lambda d: d["topics"].update(pins={"01": {}}), "'01' is not the number of a partition"),
        (lambda d: d["topics"][TOPIC]["0"].update(stop=13), r"no pinned flush covers \[12, 13\)"),
        (lambda d: d["topics"][TOPIC]["0"].update(start=14), "start <= stop"),
        (lambda d: first_flush(d)["commit"].update(path="_commits/1/x.json"), "not the path of a commit object"),
        (lambda d: first_flush(d)["commit"].update(path=COMMIT), r"not a commit object of pins\[0\]"),
        (lambda d: first_flush(d)["commit"].update(etag="x"), "needs a sha256"),
        (lambda d: first_flush(d)["parts"][0].update(path="../../secret.parquet"), "not the path of a data file"),
        (lambda d: first_flush(d)["parts"][0].update(size_bytes=-1), "size_bytes of .* is not negative"),
        (lambda d: first_flush(d)["parts"][0].update(sha256=""), "needs an etag or a sha256"),
        (lambda d: first_flush(d)["parts"][0].pop("sha256"), "sha256 should be str, found NoneType"),
    ],
)
def test_a_file_that_is_no_snapshot_is_refused(tmp_path, edit, message):
    """With its path and what is wrong; nothing outside of the archive can be named in one."""
    archived().capture().save(tmp_path / "x.json")
    document = json.loads((tmp_path / "x.json").read_text())
    edit(document)
    (tmp_path / "x.json").write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=rf"x\.json .*{message}"):
        Snapshot.load(tmp_path / "x.json")


def first_flush(document):
    return document["topics"][TOPIC]["0"]["flushes"][0]


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere/x.json", "there is no snapshot file nowhere/x.json"), ("folder/", "ends with its name")],
)
def test_a_path_without_a_snapshot(path, message):
    """Named."""
    with pytest.raises(ConfigError, match=message):
        Snapshot.load(path)


@pytest.mark.rule("B2")
@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_bytes_that_are_no_json(tmp_path, content):
    """An empty file, half of one, another document."""
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.json \(\d+ bytes\) is not a snapshot file"):
        Snapshot.load(tmp_path / "x.json")


@pytest.mark.rule("B4")
def test_no_secret_gets_into_the_file_or_a_repr(tagged, tmp_path):
    """Options stay with whoever gave them; a path that holds credentials is refused without being shown."""
    secret = "hunter2-" * 2
    world = archived(root="tagged://archive", options={"key": "AKIAQ", "secret": secret})
    snapshot = world.capture()
    snapshot.save(tmp_path / "x.json", {"secret": secret})
    read = snapshot.archive({"secret": secret})
    shown = f"{(tmp_path / 'x.json').read_text()} {snapshot!r} {read!r} {read.connect()!r} {pickle.loads(pickle.dumps(read))!r}"
    assert secret not in shown
    assert "AKIAQ" not in shown
    with pytest.raises(ConfigError, match="holds credentials: pass them in storage_options") as caught:
        snapshot.save(f"s3://me:{secret}@bucket/x.json")
    assert secret not in str(caught.value)


def test_ten_thousand_files_are_a_small_pipeline():
    """Runners limit the size of a pipeline, which holds the pins more than once."""
    flushes = tuple(
        PinnedFlush(
            commit=PinnedFile(
                path=f"_commits/0/{n:020d}-{n + 1:020d}-{n:020d}-{n:020d}.json",
                size_bytes=500,
                kind="sha256",
                fingerprint=sha256_of(b"%d" % n),
            ),
            parts=(
                PinnedFile(
                    path=part_path(PartName(partition=0, start=n, stop=n + 1, part=1, parts=1), n),
                    size_bytes=n,
                    kind="etag",
                    fingerprint=sha256_of(b"%d." % n)[:32],
                ),
            ),
        )
        for n in range(10_000)
    )
    partition = PinnedPartition(tp=TP, offsets=OffsetRange(0, 10_000), flushes=flushes)
    archive = Snapshot(root="memory://x", isolation_level="read_committed", partitions=(partition,)).archive()
    packed = pickle.dumps(archive)
    assert len(packed) < 1_000_000
    assert pickle.loads(packed) == archive


# -- replay


def test_a_replay_gives_the_log_as_it_was():
    """Records to the byte, whatever came after the capture; without asking Kafka."""
    world = archived()
    expected = list(without_store(world.log.records(0)))
    snapshot = world.capture()
    world.produce(5)
    world.flush(12, 17)
    world.log.expire(0, 17)
    world.log.asked.clear()
    assert list(without_store(replay(snapshot)[TP])) == expected
    assert world.log.asked["fetch"] == 0


def test_where_flushes_overlap_one_gives_an_offset_however_often_a_reader_resumes():
    """Two flushes that differ (what was compacted in between): which one serves an offset is pinned, too."""
    world = Archived()
    world.produce(12)
    world.flush(0, 7)
    world.flush(3, 12, records=[r._replace(value=b"other") for r in world.log.records(0)])
    snapshot = world.capture()
    plain = replay(snapshot)
    assert [record.value == b"other" for record in plain[TP]] == [False] * 7 + [True] * 5
    for max_records in (1, 2, 5):
        assert replay(snapshot, resume_every=1, max_records=max_records) == plain
    log = snapshot.archive().connect()
    second = list(log.index(TP))[1]
    batch = log.open(TP, second, 0).read(100)
    assert batch is not None
    assert batch.offsets()[0] == 7


def part_of(world, number=0):
    return [path for path in world.paths() if path.endswith(".parquet")][number]


def commit_of(world, number=0):
    return [path for path in world.paths() if path.endswith(".json")][number]


def flipped(content):
    """One bit is another: no size tells."""
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.rule("B2")
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "piecewise"])
@pytest.mark.parametrize("file", [part_of, commit_of], ids=["part", "commit"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda world, path: world.files.rm_file(path), "is missing"),
        (
            lambda world, path: world.replace(path, world.files.cat_file(path)[:-1]),
            r"has \d+ bytes, the snapshot says \d+",
        ),
        (lambda world, path: world.replace(path, flipped(world.files.cat_file(path))), "was replaced: its SHA-256 is"),
        (lambda world, path: world.replace(path, b""), "has 0 bytes"),
    ],
    ids=["deleted", "cut", "replaced", "emptied"],
)
def test_a_changed_file_is_named(file, damage, message, whole, monkeypatch):
    """Whatever happened to it, before a record of it is given; with the next step. Large files are read in pieces."""
    if not whole:
        monkeypatch.setattr(archive_reader, "_WHOLE_FILE_BYTES", 0)
    world = archived()
    snapshot, path = world.capture(), file(world, 1)
    damage(world, path)
    with pytest.raises(
        SnapshotChangedError, match=rf"topic 'pins' is no longer.*{path}.*{message}.*Restore what was there"
    ):
        replay(snapshot)


@pytest.mark.rule("B2")
def test_a_file_that_is_deleted_while_it_is_read(monkeypatch):
    """After the check: by whoever opens it, whole or in pieces."""
    for whole_bytes in (2**30, 0):
        monkeypatch.setattr(archive_reader, "_WHOLE_FILE_BYTES", whole_bytes)
        world = archived()
        log = world.capture().archive().connect()
        log.check(TOPIC, isolation_level="read_committed")
        world.files.rm_file(part_of(world, -1))
        flush = list(log.index(TP))[-1]
        with pytest.raises(SnapshotChangedError, match="is missing"):
            log.open(TP, flush, flush.start)


@pytest.mark.parametrize("when", ["before the check", "after it", "after it, in pieces"])
def test_a_replaced_file_is_told_by_its_etag(tagged, when, monkeypatch):
    """By the listing; and again when it is opened."""
    if when.endswith("in pieces"):
        monkeypatch.setattr(archive_reader, "_WHOLE_FILE_BYTES", 0)
    world = archived(root="tagged://archive")
    snapshot = world.capture()
    log, path = snapshot.archive().connect(), part_of(world, -1)
    assert offsets(replay(snapshot)[TP]) == list(range(12))
    if when != "before the check":
        log.check(TOPIC, isolation_level="read_committed")
    world.replace(path, world.files.cat_file(path))
    flush = list(log.index(TP))[-1]
    with pytest.raises(SnapshotChangedError, match=rf"{path}.*was replaced: its ETag is .*, the snapshot says"):
        log.check(TOPIC, isolation_level="read_committed") if when == "before the check" else log.open(TP, flush, 9)


def test_etags_do_not_survive_a_move_to_another_kind_of_storage(tagged):
    """Nothing could be compared: said, instead of believed. Hashes do."""
    world, moved = archived(root="tagged://archive"), f"memory://moved-{id(tagged)}"
    for path in world.paths():
        fsspec.filesystem("memory").pipe_file(f"{moved}{path.removeprefix(world.root)}", world.files.cat_file(path))
    with pytest.raises(SnapshotChangedError, match=r"has no ETag to compare.*another kind of storage"):
        replay(world.capture(), root=moved)
    assert offsets(replay(world.capture(fingerprint="sha256"), root=moved)[TP]) == list(range(12))


def test_a_large_file_is_hashed_once_a_worker(monkeypatch):
    """A reader that resumes opens it again; it does not read all of it again."""
    monkeypatch.setattr(archive_reader, "_WHOLE_FILE_BYTES", 0)
    snapshot, hashed = archived().capture(), list[str]()

    def noted(file):
        hashed.append(sha256_of_file(file))
        return hashed[-1]

    monkeypatch.setattr(pinned, "sha256_of_file", noted)
    replay(snapshot, resume_every=1, max_records=1)
    assert len(hashed) == sum(len(one.parts) for one in snapshot.partitions[0].flushes)
    file, _ = snapshot.archive().connect()._storage.open(f"{TOPIC}/{snapshot.partitions[0].flushes[0].parts[0].path}")
    assert file.tell() == 0  # hashed, and still to be read


@pytest.mark.rule("B2")
@pytest.mark.parametrize(("start", "stop"), [(4, 6), (0, 2), (11, 20), (0, 12)])
def test_a_flush_that_came_into_the_range_is_named(start, stop):
    """A reader would have to choose between two; also where it only overlaps."""
    world = archived(records=20)
    snapshot = world.capture(stop=Stop.offsets({0: 12}))
    world.flush(start, stop)
    name = f"{start:020d}-{stop:020d}"
    with pytest.raises(SnapshotChangedError, match=rf"_commits/0/{name}.* is additional"):
        replay(snapshot)


def test_a_file_without_a_commit_that_came_into_the_range_is_named():
    """Somebody is writing there. What lay there before the capture is no part of the log, and known."""
    world = archived()
    stray = part_of(world).replace(f"-{5:020d}-", f"-{6:020d}-")
    world.replace(stray, b"left by a writer that was killed")
    snapshot = world.capture()
    assert snapshot.partitions[0].uncommitted == (stray.removeprefix(f"{world.root}/{TOPIC}/"),)
    assert offsets(replay(snapshot)[TP]) == list(range(12))
    world.files.rm_file(stray)
    assert offsets(replay(snapshot)[TP]) == list(range(12))
    world.replace(stray.replace("1of", "2of"), b"")
    with pytest.raises(SnapshotChangedError, match=r"2of.* is additional"):
        replay(snapshot)


def test_what_comes_outside_of_the_range_is_fine():
    """Before, behind, of another partition or topic, and whatever is not a file of the layout."""
    world = archived(records=20, flushes=(0, 3, 9, 12), partitions=2)
    world.produce(4, partition=1)
    world.flush(0, 4, partition=1)
    snapshot = world.capture(start=Start.offsets({0: 3, 1: 0}), stop=Stop.offsets({0: 9, 1: 4}))
    world.flush(0, 2)
    world.flush(12, 20)
    world.flush(9, 12, records=[])
    write_flush(world.archive, TopicPartition(TOPIC, 7), [], start=3, stop=5)
    write_flush(world.archive, TopicPartition("needles", 0), [], start=3, stop=5)
    for name in (".hidden", "_SUCCESS", "x.parquet"):
        world.replace(f"{part_of(world).rpartition('/')[0]}/{name}", b"")
        world.replace(f"{commit_of(world).rpartition('/')[0]}/{name}", b"")
    assert offsets(replay(snapshot)[TP]) == list(range(3, 9))


def test_many_changes_are_counted_and_the_first_ones_named():
    """A bucket that was emptied must not fill the log."""
    world = archived()
    snapshot, files = world.capture(), len(world.paths())
    world.files.rm(f"{world.root}/{TOPIC}", recursive=True)
    with pytest.raises(SnapshotChangedError, match=rf"(is missing.*){{5}}; and {files - 5} more\. Restore") as caught:
        replay(snapshot)
    assert str(caught.value).count("is missing") == 5


def test_the_check_asks_by_day_not_by_file(monkeypatch):
    """Ten thousand files are some dozen requests."""
    world = archived(records=300, flushes=range(0, 301, 2))
    snapshot, asked, files = world.capture(), list[str](), Storage.files

    def noted(self, folder):
        asked.append(folder)
        return files(self, folder)

    monkeypatch.setattr(Storage, "files", noted)
    for method in ("info", "get", "get_all", "open"):
        monkeypatch.delattr(Storage, method)
    snapshot.archive().connect().check(TOPIC, isolation_level="read_committed")
    assert sorted(asked) == ["pins/_commits/0", "pins/dt=2026-11-16", "pins/dt=2026-11-17", "pins/dt=2026-11-18"]


@pytest.mark.rule("B2")
def test_the_two_halves_know_what_they_hold():
    """Topics and partitions of the snapshot, at the end of their log, and no record."""
    snapshot = archived().capture()
    kafka, archive = snapshot.kafka(), snapshot.archive().connect()
    assert (kafka.topics(), kafka.partitions(TOPIC), kafka.topic_id(TOPIC)) == ((TOPIC,), (0,), None)
    assert kafka.bounds(TP) == OffsetRange(12, 12)
    assert kafka.offset_at(TP, 0) is None
    assert kafka.fetch(TP, 3, max_records=1, timeout_ms=0) == OutOfRange(held=OffsetRange(12, 12))
    at_end = kafka.fetch(TP, 12, max_records=1, timeout_ms=0)
    assert not isinstance(at_end, OutOfRange)
    assert at_end.at_end
    with pytest.raises(UnknownTopicError, match="the snapshot does not hold topic 'needles', but pins"):
        kafka.partitions("needles")
    with pytest.raises(ConfigError, match="the snapshot does not hold topic 'needles', but pins"):
        archive.check("needles", isolation_level="read_committed")
    with pytest.raises(ConfigError, match="taken as read_committed, the reader is read_uncommitted"):
        archive.check(TOPIC, isolation_level="read_uncommitted")
    assert len(archive.index(TopicPartition(TOPIC, 9))) == 0


# -- ReadUnified.from_snapshot


def from_snapshot(snapshot, **options):
    return ReadUnified.from_snapshot(snapshot, **{"timestamp_fn": KafkaTimestamp(), "output": "record", **options})


def digests(read):
    """What a pipeline over it gives."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    return pipeline, pipeline | read | PartitionDigests()


def expect(read, *records):
    pipeline, found = digests(read)
    assert_that(found, same_digests(digests_of((one, one.timestamp * 1_000) for one in records)))
    pipeline.run().wait_until_finish()


@pytest.mark.parametrize("options", [{}, {"ordered": False}, {"prefer": "kafka"}, {"validate": False}])
def test_a_pipeline_replays_a_snapshot_file(tmp_path, options):
    """Whatever else is asked for, the records are those; with a path as with the snapshot itself."""
    world = archived()
    world.capture().save(tmp_path / "x.json")
    expect(
        from_snapshot(tmp_path / "x.json", **options),
        *world.log.records(0),
    )


def test_some_topics_of_a_snapshot(tmp_path):
    """All of them by default."""
    logs = [InMemoryLog(topic) for topic in ("needles", "pins")]
    for log in logs:
        for n in range(3):
            log.append(0, b"%s %d" % (log.topic.encode(), n), timestamp=n)
    archive = Archived().archive
    both = InMemoryTopics(*logs)
    snapshot = Snapshot.capture(both.kafka, archive, ["pins", "needles"], archive_missing=True)
    assert snapshot.topics == ("needles", "pins")
    expect(from_snapshot(snapshot), *logs[0].records(0), *logs[1].records(0))
    expect(from_snapshot(snapshot, topics="pins"), *logs[1].records(0))
    with pytest.raises(ConfigError, match=r"the snapshot holds topics needles, pins, not \['pans'\]"):
        from_snapshot(snapshot, topics=["pans"])


def test_an_archive_that_was_moved(tmp_path):
    """With `archive_root`; the old place says what is missing."""
    world = archived(root=f"{tmp_path}/archive")
    snapshot = world.capture()
    Path(f"{tmp_path}/archive").rename(tmp_path / "elsewhere")
    expect(from_snapshot(snapshot, archive_root=f"{tmp_path}/elsewhere"), *world.log.records(0))
    with pytest.raises(SnapshotChangedError, match=f"{tmp_path}/archive/pins/.* is missing"):
        digests(from_snapshot(snapshot))


def test_a_changed_archive_is_refused_while_the_pipeline_is_built(tmp_path):
    """Before anything runs; without `validate` a worker says it."""
    world = archived()
    snapshot = world.capture()
    world.files.rm_file(part_of(world))
    with pytest.raises(SnapshotChangedError):
        digests(from_snapshot(snapshot))
    pipeline, _ = digests(from_snapshot(snapshot, validate=False))
    with pytest.raises(SnapshotChangedError):
        pipeline.run().wait_until_finish()


@pytest.mark.rule("B2")
@pytest.mark.parametrize("option", ["topic", "kafka", "archive", "start", "stop"])
def test_what_the_snapshot_decides_cannot_be_said_again(option):
    """Two answers to one question."""
    with pytest.raises(ConfigError, match=f"{option} is what the snapshot pins"):
        from_snapshot(archived().capture(), **{option: None})
    with pytest.raises(ConfigError, match="timestamp_fn is required"):
        from_snapshot(archived().capture(), timestamp_fn=None)
