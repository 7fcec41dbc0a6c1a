"""What `detect_layout` proposes, and why."""

import shutil

import pytest

from beam_unified import Archive, ConfigError, JsonEnvelope, Secor, TopicPartition, detect_layout, lenses
from beam_unified.archive.foreign.secor import hashed_prefix
from beam_unified.archive.writer import write_flush
from tests.data.secor import FOLDER, TOPIC
from tests.unit.archive.foreign.test_template import envelope, write


@pytest.mark.rule("A3")
@pytest.mark.parametrize("keys", ["offset", "message_pack"])
def test_secor_is_known_by_names_and_content(keys):
    """A3: the kind of keys is read from files; the evidence says so; markers count for nothing."""
    found = detect_layout(str(FOLDER / keys))
    assert found.only() == Secor(keys=keys)
    (proposal,) = found.proposals
    assert proposal.topics == (TOPIC,)
    assert "6 of 6 files are named" in str(found)
    assert f"SequenceFiles with keys of {keys}" in str(found)


def test_hashed_paths_are_checked_by_their_hash(tmp_path):
    """A3: four digits alone prove nothing."""
    for path in (FOLDER / "offset" / TOPIC).rglob("1_*"):
        below = path.relative_to(FOLDER / "offset")
        target = tmp_path / hashed_prefix(list(below.parent.parts)) / "raw" / "secor" / below
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    found = detect_layout(str(tmp_path))
    assert found.only() == Secor(hashed_path="raw/secor")
    assert found.proposals[0].code == "Secor(hashed_path='raw/secor')"


@pytest.mark.rule("A3")
def test_nothing_is_guessed(tmp_path):
    """A3: two layouts, files that fit none, content of another kind, or a question left open: no answer but what was seen."""
    shutil.copytree(FOLDER / "offset", tmp_path, dirs_exist_ok=True)
    write(tmp_path, "notes/readme.txt", ["hello"])
    with pytest.raises(ConfigError, match=r"not explained, for example: notes/readme.txt"):
        detect_layout(str(tmp_path)).only()
    shutil.rmtree(tmp_path / "notes")
    write(tmp_path, "kafka/other/0/7_1000_1007.json", [envelope(7)])
    found = detect_layout(str(tmp_path))
    assert {one.code for one in found.proposals} == {
        "Secor()",
        "lenses(JsonEnvelope(compression=None), prefix='kafka/')",
    }
    with pytest.raises(ConfigError, match="2 layouts proposed"):
        found.only()


@pytest.mark.parametrize(
    ("path", "lines", "said"),
    [
        ("pins/dt=2026-11-16/1_0_00000000000000000005.parquet", ["PAR1"], "is Parquet, which holds no offsets"),
        ("pins/0/7_1000_1007.json", ['{"n": 1}'], "without store.envelope=true there are no offsets"),
        (
            "c/pins/year=2026/month=07/day=14/hour=00/pins+0+000000000000000000-000000-1",
            ['{"n": 1}'],
            "whether a value a line is the format must be said",
        ),
        ("topics/pins/partition=0/pins+0+0000000000.avro", ["Obj"], "Confluent(format='avro', ...)"),
        ("topics/pins/year=2026/pins+0+0000000000.json.gz", ["x"], "or for you to know (dense=True)"),
        ("hdfs/pins/partition=0/pins+0+0000000000+0000000007.avro", ["x"], "ends='names', topics_dir='hdfs', ...)"),
        ("a/my-pins-0-15.gz", ["x"], "topics my-pins"),
        ("date=2026-11-16/1794-aa.log.gz", ["x"], "no layouts proposed"),
    ],
)
def test_what_cannot_be_read_or_must_be_said_is_said(tmp_path, path, lines, said):
    """A3, B2: the reason, not a layout."""
    write(tmp_path, path, lines)
    found = detect_layout(str(tmp_path))
    assert said in str(found)
    with pytest.raises(ConfigError):
        found.only()


def test_lenses_and_our_own(tmp_path):
    """A3: a layout that fits, and an archive that needs none."""
    write(tmp_path / "lenses", "kafka/pins/0/7_1000_1007.json", [envelope(7)])
    assert detect_layout(str(tmp_path / "lenses")).only() == lenses(JsonEnvelope(), prefix="kafka")
    write_flush(Archive(str(tmp_path / "ours")), TopicPartition("pins", 0), [], start=0, stop=5)
    found = detect_layout(str(tmp_path / "ours"))
    assert "our own layout" in str(found)
    assert found.unexplained == ()


def test_an_empty_place_is_an_error(tmp_path):
    """B2: there is nothing to look at."""
    with pytest.raises(ConfigError, match="there is no file to look at"):
        detect_layout(str(tmp_path))
