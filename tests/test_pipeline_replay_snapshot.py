"""pipelines/replay_snapshot.py: two replays are one file of digests; what changed is named."""

from pathlib import Path

import pytest

from beam_unified import SnapshotChangedError, TopicPartition
from pipelines import replay_snapshot
from tests.snapshot_world import NOON_MS, TOPIC, Archived

pytestmark = pytest.mark.rule("R9")


@pytest.fixture
def snapshot(tmp_path):
    """Two partitions, in five flushes; the snapshot lies beside the archive."""
    world = Archived(f"{tmp_path}/archive", partitions=2)
    for partition, records in ((0, 30), (1, 20)):
        world.produce(records, partition)
        for start in range(0, records, 10):
            world.flush(start, start + 10, partition)
    world.capture(fingerprint="sha256").save(tmp_path / "pins.json")
    return world, tmp_path / "pins.json"


def run(path: Path, name: str, *options: str) -> tuple[int, Path]:
    """The command."""
    output = path.parent / name
    return replay_snapshot.main([str(path), str(output), *options]), output


def test_two_runs_give_the_same_file(snapshot):
    """Byte for byte, and every record is in it."""
    _, path = snapshot
    (code, one), (_, other) = run(path, "one.jsonl"), run(path, "other.jsonl")
    assert code == 0
    assert one.read_bytes() == other.read_bytes()
    assert [
        (d.topic, d.partition, d.records, d.first_offset, d.last_offset) for d in replay_snapshot.load(str(one))
    ] == [
        (TOPIC, 0, 30, 0, 29),
        (TOPIC, 1, 20, 0, 19),
    ]


def test_a_difference_is_exit_code_1_and_names_the_partition(snapshot, tmp_path, capsys):
    """The same offsets with another event time: the digests of another data set."""
    world, path = snapshot
    _, expected = run(path, "expected.jsonl")
    assert run(path, "same.jsonl", "--expect", str(expected))[0] == 0
    other = Archived(f"{tmp_path}/other", partitions=2)
    for partition in (0, 1):
        records = world.log.records(partition)
        for record in records:
            late = partition == 1 and record.offset == 7
            other.log.append(
                partition,
                record.value,
                timestamp=NOON_MS if late else record.timestamp,
                key=record.key,
                headers=record.headers,
            )
        other.flush(0, other.log.kafka.bounds(TopicPartition(TOPIC, partition)).stop, partition)
    other.capture().save(tmp_path / "other.json")
    capsys.readouterr()
    assert run(tmp_path / "other.json", "different.jsonl", "--expect", str(expected))[0] == 1
    assert "DIFFERENT: pins[1]: sha256 is " in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["changed", "lost"])
def test_a_changed_archive_is_an_error_that_names_the_file(snapshot, damage):
    """Not another digest: whoever compares would look for the cause in the pipeline."""
    world, path = snapshot
    file = Path(next(name for name in world.paths() if name.endswith(".parquet")))
    if damage == "lost":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1  # the same size
        file.write_bytes(content)
    with pytest.raises(SnapshotChangedError, match=file.name):
        run(path, "digests.jsonl")
    assert not (path.parent / "digests.jsonl").exists()
