"""Names of layout A1, spelled out. Round trips are in tests/properties/test_archive_names.py."""

import pytest

from beam_unified.archive import layout
from beam_unified.archive.layout import PartName
from beam_unified.errors import ConfigError
from beam_unified.flushes import Flush

COMMIT = "00000000000000000007-00000000000000000012-01794830400000-01794830400000.json"
NULL = "__HIVE_DEFAULT_PARTITION__"


@pytest.mark.rule("A1")
def test_a_data_file_says_partition_range_and_part():
    """The names of the contract, as query engines and people see them."""
    name = PartName(partition=3, start=7, stop=12, part=1, parts=2)
    path = "dt=2026-11-16/hr=13/3-00000000000000000007-00000000000000000012-1of2.parquet"
    hour = layout.hour_of(1_794_834_060_123)
    assert layout.part_path(name, hour) == path
    assert layout.parse_part(path) == (name, hour)


@pytest.mark.rule("A1")
@pytest.mark.parametrize(
    ("flush", "name"),
    [
        (Flush(7, 12, 0, 5), f"{7:020d}-{12:020d}-{0:020d}-{5:020d}.json"),
        (Flush(7, 12, -5, -1), f"{7:020d}-{12:020d}-n{5:020d}-n{1:020d}.json"),
        (Flush(7, 12, None, None), f"{7:020d}-{12:020d}-none-none.json"),
    ],
)
def test_a_commit_says_range_and_times(flush, name):
    """Times before 1970 and no times at all have a spelling of their own."""
    assert layout.commit_name(flush) == name
    assert layout.parse_commit(name) == flush


@pytest.mark.parametrize(
    ("timestamp", "folder"),
    [
        (0, "dt=1970-01-01/hr=00"),
        (-1, "dt=1969-12-31/hr=23"),
        (-33_000_000_000_000, "dt=0924-04-09/hr=13"),
        (None, f"dt={NULL}/hr={NULL}"),
        (2**62, f"dt={NULL}/hr={2**62 // 3_600_000}"),
        (-(2**62), f"dt={NULL}/hr={-(2**62) // 3_600_000}"),
    ],
)
def test_hour_folders(timestamp, folder):
    """UTC, years of four digits; what no calendar has lies with null, by its number."""
    assert layout.hour_folder(layout.hour_of(timestamp)) == folder


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".hidden.json",
        "_SUCCESS",
        f".{COMMIT}",
        f"{COMMIT}.tmp",
        f"{COMMIT}\n",
        f"{7:020d}-{12:020d}-none-{0:020d}.json",
        f"{12:020d}-{7:020d}-none-none.json",
        f"{7:020d}-{7:020d}-none-none.json",
        f"{7:019d}-{12:020d}-none-none.json",
        f"{7:020d}-{'9' * 20}-none-none.json",
        f"{7:020d}-{12:020d}-n{0:020d}-{0:020d}.json",
        f"{7:020d}-{12:020d}-{'9' * 20}-{'9' * 20}.json",
        f"{7:020d}-{12:020d}-none-none.json".replace("7", "\u0667"),
    ],
)
def test_other_names_are_not_commits(name):
    """Temporary files, other ranges, other spellings of the same number, digits of other scripts."""
    assert layout.parse_commit(name) is None


@pytest.mark.parametrize(
    "path",
    [
        f"{7:020d}-{12:020d}-1of1.parquet",
        f"dt=2026-11-16/hr=24/3-{7:020d}-{12:020d}-1of1.parquet",
        f"dt=2026-02-30/hr=00/3-{7:020d}-{12:020d}-1of1.parquet",
        f"dt=2026-11-16/hr=00/03-{7:020d}-{12:020d}-1of1.parquet",
        f"dt=2026-11-16/hr=00/3-{7:020d}-{12:020d}-2of1.parquet",
        f"dt=2026-11-16/hr=00/3-{7:020d}-{12:020d}-0of1.parquet",
        f"dt={NULL}/hr=5/3-{7:020d}-{12:020d}-1of1.parquet",
        f"../dt=2026-11-16/hr=00/3-{7:020d}-{12:020d}-1of1.parquet",
    ],
)
def test_other_paths_are_not_data_files(path):
    """One range, one hour: one path."""
    assert layout.parse_part(path) is None


@pytest.mark.parametrize("topic", ["", ".", "..", "a/b", "a b", "ä", "a" * 250, "a\n", "../a"])
def test_topics_that_kafka_does_not_allow_are_refused(topic):
    """No name that could leave the root or be mistaken for another."""
    with pytest.raises(ConfigError, match="not a name that Kafka allows"):
        layout.check_topic(topic)


@pytest.mark.parametrize(("name", "partition"), [("0", 0), ("17", 17), ("07", None), ("\u0661", None), ("-1", None)])
def test_partition_folders(name, partition):
    """Exact, as all parsers are."""
    assert layout.parse_partition(name) == partition


@pytest.mark.parametrize(
    "wrong",
    [{"partition": -1}, {"start": -1}, {"start": 13}, {"part": 0}, {"part": 3}, {"stop": 2**63}],
)
def test_names_that_could_not_be_parsed_are_not_written(wrong):
    """Every written name comes back."""
    with pytest.raises(ValueError, match=r"."):
        PartName(**{"partition": 0, "start": 7, "stop": 12, "part": 1, "parts": 2, **wrong})


def test_folders_of_negative_partitions_do_not_exist():
    """As above, for commits."""
    with pytest.raises(ValueError, match="not negative"):
        layout.commits_folder(-1)
    with pytest.raises(ValueError, match="64-bit"):
        layout.commit_name(Flush(0, 1, 2**63, 2**63))
