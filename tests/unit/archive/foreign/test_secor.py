"""Secor's names, and its files as Hadoop's own classes wrote them (tests/data/secor)."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified import Archive, ConfigError, CorruptArchiveError, Secor, TopicPartition
from beam_unified.archive.foreign.layout import Completeness, FileName, Layout, is_marker
from beam_unified.archive.foreign.secor import hashed_prefix
from beam_unified.flushes import Flush
from beam_unified.positions import AtTimestamp
from beam_unified.reading.resolve import resolve_start
from beam_unified.records import Record
from beam_unified.testing import InMemoryLog
from tests.data.secor import ARCHIVED, FOLDER, TOPIC, key_of, timestamp_of, value_of

TP = TopicPartition(TOPIC, 0)
OFFSETS = st.integers(0, 2**63 - 1)
FOLDERS = st.lists(st.sampled_from(["dt=2026-11-16", "hr=07", "offset=5000000", "a", "1_2"]), min_size=1, max_size=3)


def archive(keys, **options):
    return Archive(str(FOLDER / keys), layout=Secor(keys=keys, **options))


def read(log, tp):
    """Every record of a partition, flush by flush, each offset at its first."""
    found, at = list[Record](), 0
    while (flush := log.index(tp).covering(at) or log.index(tp, refresh=True).covering(at)) is not None:
        reader = log.open(tp, flush, at)
        while (batch := reader.read(13)) is not None:
            found += batch.records()
        at = reader.stop
        reader.close()
    return found


@given(st.integers(0, 99), st.integers(0, 10_000), OFFSETS, FOLDERS, st.sampled_from(["", ".gz", ".snappy", ".a.b"]))
def test_names_are_read_as_secor_writes_them(generation, partition, start, folders, extension):
    """A3: whatever the folders and the extension; with hashes only below the right one."""
    name = f"{generation}_{partition}_{start:020d}{extension}"
    wanted = FileName(partition=partition, start=start)
    assert Secor().parse(TOPIC, "/".join([TOPIC, *folders, name])) == wanted
    assert Secor().parse("other", "/".join([TOPIC, *folders, name])) is None
    below = [TOPIC, *folders]
    hashed = Secor(hashed_path="raw/logs/")
    assert hashed.folder(TOPIC) == ""
    assert hashed.parse(TOPIC, "/".join([hashed_prefix(below), "raw", "logs", *below, name])) == wanted
    assert hashed.parse(TOPIC, "/".join(["zzzz", "raw", "logs", *below, name])) is None
    assert hashed.parse(TOPIC, "/".join([hashed_prefix(below), "raw", *below, name])) is None


@pytest.mark.parametrize(
    "name", ["1_0_5", "1_0-1_bm9uc2Vuc2U", "x_0_00000000000000000005", "1_0_99999999999999999999", "_SUCCESS"]
)
def test_other_names_are_none_of_its(name):
    """A3: an offset of 20 digits that Kafka can have; files of several partitions are not."""
    assert Secor().parse(TOPIC, f"{TOPIC}/dt=2026-11-16/{name}") is None


@pytest.mark.parametrize(
    ("path", "marker"),
    [
        ("_b/pins+0+0000000002.json", False),
        (".b/pins+0+0000000002.json", False),
        ("_delta_log/00000000000000000000.json", True),
        ("dt=1/_SUCCESS", True),
        ("_temporary/0/1_0_00000000000000000005", True),
        ("dt=1/.1_0_00000000000000000005.crc", True),
        ("dt=1/1_0_00000000000000000005.crc", True),
        ("dt=1/1_0_00000000000000000005", False),
    ],
)
def test_what_hadoop_leaves_beside_data_is_ignored(path, marker):
    """A3: hidden files, temporary folders, checksums, markers of success."""
    assert is_marker(path) is marker
    assert is_marker("_events-0-0", "_events") is False
    assert is_marker("_events-0-0", "pins") is True


@pytest.mark.rule("A3", "R1")
@pytest.mark.parametrize("keys", ["offset", "message_pack"])
@pytest.mark.parametrize("partition", ARCHIVED)
def test_files_of_hadoop_are_read_to_the_byte(keys, partition):
    """A3: every record, once, in order: a batch over two hours, a late message, a batch begun anew; checksums ignored."""
    log, packed = archive(keys).connect(), keys == "message_pack"
    log.check(TOPIC, isolation_level="read_committed")
    assert read(log, TopicPartition(TOPIC, partition)) == [
        Record(
            key_of(offset) if packed else None,
            value_of(partition, offset),
            (),
            TOPIC,
            partition,
            offset,
            timestamp_of(offset) if packed else None,
            None,
            "archive",
        )
        for offset in range(ARCHIVED[partition])
    ]


@pytest.mark.rule("A3")
def test_the_wrong_kind_of_keys_is_named():
    """B2: the file, and what its keys are."""
    log = Archive(str(FOLDER / "offset"), layout=Secor(keys="message_pack")).connect()
    with pytest.raises(CorruptArchiveError, match=r"pins\[0\]: .*1_0_0+120.* it holds keys of .*LongWritable"):
        log.index(TP)


@pytest.mark.rule("R6")
@pytest.mark.parametrize("folders_by", [None, "kafka"])
def test_an_instant_is_found_in_the_archive(folders_by):
    """R6: the first offset at or after it, wherever its file is; a late message does not hide it."""
    log = archive("message_pack", folders_by=folders_by).connect()
    kafka = InMemoryLog(TOPIC).kafka
    for offset in (0, 5, 79, 80, 119, 120, 138, 149):
        assert resolve_start(AtTimestamp(timestamp_of(offset) - 30_000), TP, kafka, log) == offset


def test_folders_bound_the_times_of_their_records():
    """R6: by day, hour and minute, in UTC."""
    layout, hour = Secor(keys="message_pack", folders_by="kafka"), 3_600_000
    day = 1_794_787_200_000
    for folders, start, length in (
        ("dt=2026-11-16", day, 24 * hour),
        ("dt=2026-11-16/hr=07", day + 7 * hour, hour),
        ("dt=2026-11-16/hr=07/min=05", day + 7 * hour + 300_000, 60_000),
    ):
        found = layout.parse(TOPIC, f"{TOPIC}/{folders}/1_0_00000000000000000005")
        assert found is not None
        assert (found.min_timestamp, found.max_timestamp) == (start, start + length - 1)
    assert layout.parse(TOPIC, f"{TOPIC}/offset=0/1_0_00000000000000000005") == FileName(partition=0, start=5)


@pytest.mark.rule("R3")
def test_a_batch_that_the_one_before_it_reaches_beyond(tmp_path):
    """R3: as in a listing of secor#97: the newest batch ends before what the one before it holds; the end is the furthest."""
    for path in (FOLDER / "offset" / TOPIC).rglob("1_0_*"):
        target = tmp_path / path.relative_to(FOLDER / "offset")
        target.parent.mkdir(parents=True, exist_ok=True)
        begun = path.name.replace("0060.deflate", "0010.deflate").replace("0120", "0005")  # they end at 120 and 150
        target.with_name(begun).write_bytes(path.read_bytes())
    log = Archive(str(tmp_path), layout=Secor()).connect()
    assert [record.offset for record in read(log, TP)] == list(range(150))
    assert log.index(TP, refresh=True).stop == 150


def test_options_are_checked():
    """B2: when they are given, with the next step."""
    assert isinstance(Secor(), Layout)
    wrongs: list[Callable[[], object]] = [
        lambda: Secor(keys="avro"),  # type: ignore[arg-type]
        lambda: Secor(folders_by="kafka"),
        lambda: Secor(keys="message_pack", folders_by="date"),
        lambda: Completeness(max_hole=-1),
        lambda: Completeness(max_hole=5),
        lambda: Completeness(isolation_level="committed"),
        lambda: Archive("memory://a", layout=Secor),  # type: ignore[arg-type]
        lambda: Archive("memory://a", accept_missing="key"),  # type: ignore[arg-type]
        lambda: Archive("memory://a", accept_missing=["offset"]),  # type: ignore[list-item]
    ]
    for wrong in wrongs:
        with pytest.raises(ConfigError):
            wrong()


@pytest.mark.rule("R4")
def test_the_isolation_level_that_the_user_states_is_the_readers():
    """R4: a foreign archive does not record it."""
    stated = Completeness(isolation_level="read_uncommitted")
    log = archive("offset", completeness=stated).connect()
    log.check(TOPIC, isolation_level="read_uncommitted")
    with pytest.raises(ConfigError, match=r"read_uncommitted.*read_committed"):
        log.check(TOPIC, isolation_level="read_committed")


def test_the_index_is_made_of_batches():
    """R3: a batch up to the next one's start; the newest up to what it holds."""
    log = archive("message_pack").connect()
    assert [(flush.start, flush.stop) for flush in log.index(TP)] == [(0, 60), (60, 120), (120, 150)]
    assert Flush(120, 150, timestamp_of(137), timestamp_of(149)) in set(log.index(TP))
