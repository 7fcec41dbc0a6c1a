"""Commands over a scripted Kafka and an archive in memory: what they write, and how they end."""

import io
import json
import logging
import os
import sys

import pytest

from beam_unified.archive.archive import Archive
from beam_unified.cli.app import main
from beam_unified.cli.cat import Buffered
from beam_unified.cli.settings import Stores
from beam_unified.offsets import TopicPartition
from beam_unified.testing import InMemoryLog
from tests.snapshot_world import TOPIC, Archived, archived


@pytest.fixture
def run(capfdbinary, monkeypatch):
    """Runs a command line against a world: exit code, lines of output, errors."""

    def runs(world, *arguments):
        stores = Stores(world.kafka if isinstance(world, InMemoryLog) else world.log.kafka, world.archive)
        code = main(arguments, obj=stores)
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return runs


def documents(out: bytes):
    return [json.loads(line) for line in out.splitlines()]


def gone_from_kafka(records: int = 12, log_start: int = 8) -> Archived:
    """[0, 12) archived in three flushes, [8, 15) in Kafka."""
    world = archived(records)
    world.produce(3)
    world.log.expire(0, log_start)
    return world


# -- positions


def test_positions_tell_both_ranges_the_handoff_and_the_lag(run):
    """A partition a row."""
    code, out, _ = run(gone_from_kafka(), "positions", TOPIC, "-o", "json")
    (row,) = documents(out)
    assert code == 0
    assert (row["archive"], row["kafka"]) == ({"start": 0, "stop": 12}, {"start": 8, "stop": 15})
    assert (row["handoff"], row["lag"], row["gaps"], row["flushes"]) == (12, 3, [], 3)


def test_positions_end_with_data_loss_where_there_is_a_gap(run):
    """Exit code 4, and the gap in the row."""
    code, out, _ = run(gone_from_kafka(log_start=14), "positions", TOPIC, "-o", "json")
    assert code == 4
    assert documents(out)[0]["gaps"] == [{"start": 12, "stop": 14}]


def test_a_table_is_not_cut_where_it_is_no_terminal(run):
    """Pipes have no width."""
    code, out, _ = run(gone_from_kafka(), "positions", TOPIC)
    assert code == 0
    assert out.count(b"\n") == 2
    assert b"[8, 15)" in out
    assert b"2026-11-16T" in out


def test_an_unknown_topic_ends_with_3_and_an_unknown_partition_with_2(run):
    """The store does not hold it; the option is wrong."""
    assert run(archived(), "positions", "nope")[0] == 3
    code, _, err = run(archived(), "positions", TOPIC, "-p", "7")
    assert code == 2
    assert "partitions 0 to 0, not 7" in err


# -- cat


def test_cat_reads_over_both_stores_in_order(run):
    """Each offset once; the store changes at the handoff."""
    code, out, _ = run(gone_from_kafka(), "cat", TOPIC, "-o", "json")
    found = documents(out)
    assert code == 0
    assert [one["offset"] for one in found] == list(range(15))
    assert [one["store"] for one in found] == ["archive"] * 12 + ["kafka"] * 3


@pytest.mark.parametrize(
    ("arguments", "offsets"),
    [
        (["-s", "10"], range(10, 15)),
        (["-s", "0:3", "-e", "0:9"], range(3, 9)),
        (["-s", "10", "-e", "13", "--prefer", "kafka"], range(10, 13)),
        (["-s", "2026-11-16T14:00:00Z", "-e", "2026-11-16T14:05:00Z"], [12]),
        (["-s", "latest"], []),
        (["-n", "4"], range(4)),
        (["-n", "0"], []),
    ],
)
def test_cat_reads_from_where_to_where_it_is_told(run, arguments, offsets):
    """Offsets, instants, limits."""
    code, out, _ = run(gone_from_kafka(), "cat", TOPIC, "-f", "%o\\n", *arguments)
    assert code == 0
    assert [int(line) for line in out.split()] == list(offsets)


def test_cat_fails_at_a_gap_after_what_comes_before_it(run):
    """What was read is written; the error names the offsets; --on-gap skip goes on and says so."""
    world = gone_from_kafka(log_start=14)
    code, out, err = run(world, "cat", TOPIC, "-f", "%o\\n")
    assert code == 4
    assert [int(line) for line in out.split()] == list(range(12))
    assert "offsets 12 to 13" in err
    code, out, err = run(world, "cat", TOPIC, "-f", "%o\\n", "--on-gap", "skip")
    assert code == 0
    assert [int(line) for line in out.split()] == [*range(12), 14]
    assert "skipped offsets [12, 14)" in err


def test_cat_merges_partitions_by_time(run):
    """Interleaved by Kafka's timestamp, in offset order within each."""
    log = InMemoryLog("two", partitions=2)
    for offset, (odd, even) in enumerate([(10, 5), (30, 20), (15, 40)]):
        log.append(0, b"%d" % offset, timestamp=odd)
        log.append(1, b"%d" % offset, timestamp=even)
    code, out, _ = run(log, "cat", "two", "--merge", "-f", "%p:%o:%T ")
    assert code == 0
    assert out.split() == [b"1:0:5", b"0:0:10", b"1:1:20", b"0:1:30", b"0:2:15", b"1:2:40"]
    code, out, _ = run(log, "cat", "two", "-f", "%p:%o ")
    assert out.split() == [b"0:0", b"0:1", b"0:2", b"1:0", b"1:1", b"1:2"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["-s", "never"],
        ["-s", "9", "-e", "3"],
        ["--follow", "-e", "now"],
        ["--follow", "--merge"],
        ["-f", "%x"],
        ["-e", "2100-01-01T00:00:00Z"],
    ],
)
def test_cat_refuses_what_cannot_be_meant(run, arguments):
    """Exit code 2, nothing on standard output, no traceback."""
    code, out, err = run(archived(), "cat", TOPIC, *arguments)
    assert (code, out) == (2, b"")
    assert "Traceback" not in err


# -- plan


def test_plan_counts_files_bytes_and_requests(run):
    """As the commit objects say; what Kafka serves is estimated from its records."""
    world = gone_from_kafka()
    code, out, _ = run(world, "plan", TOPIC, "-s", "5", "-o", "json")
    (row,) = documents(out)
    sizes = [
        world.files.size(path)
        for path in world.paths()
        if path.endswith(".parquet") and "-00000000000000000000-" not in path
    ]
    assert code == 0
    assert (row["flushes"], row["files"], row["archive_bytes"]) == (2, len(sizes), sum(sizes))
    assert row["archive_records"] == 7
    assert (row["gets"], row["lists"]) == (2 + len(sizes), 1)
    assert (row["kafka_offsets"], row["kafka_bytes"]) == (3, 3 * (2 + 3))  # b"12", b"k12"
    assert row["cost"] == pytest.approx((2 + len(sizes)) * 0.0000004 + 0.000005)


def test_plan_from_kafka_only_reads_no_file(run):
    """--prefer kafka leaves out what Kafka holds, and a start behind the archive opens nothing."""
    code, out, _ = run(gone_from_kafka(), "plan", TOPIC, "-s", "12", "-o", "json")
    (row,) = documents(out)
    assert (code, row["files"], row["gets"], row["kafka_offsets"]) == (0, 0, 0, 3)


# -- verify


def kinds(out: bytes):
    return sorted(one["kind"] for one in documents(out))


def test_verify_finds_nothing_wrong_where_nothing_is(run):
    """Exit code 0, no row."""
    for depth in ([], ["--deep"], ["--strict"]):
        code, out, _ = run(gone_from_kafka(), "verify", TOPIC, "-o", "json", *depth)
        assert (code, out) == (0, b"")


def test_verify_finds_gaps_of_both_kinds(run):
    """What Kafka still holds can be archived again; what nobody holds cannot."""
    world = archived(12, flushes=(0, 5))
    world.flush(7, 9)
    world.flush(10, 12)
    world.log.expire(0, 8)
    code, out, _ = run(world, "verify", TOPIC, "-o", "json")
    assert code == 5
    assert [(one["kind"], one["offsets"]) for one in documents(out)] == [
        ("gap", {"start": 5, "stop": 7}),
        ("archive-gap", {"start": 9, "stop": 10}),
    ]


def test_verify_warns_of_overlaps(run):
    """A warning is a problem under --strict only."""
    world = archived()
    world.flush(3, 7)
    code, out, _ = run(world, "verify", TOPIC, "-o", "json")
    assert (code, set(kinds(out))) == (0, {"overlap"})
    assert run(world, "verify", TOPIC, "-o", "json", "--strict")[0] == 5


def test_verify_finds_half_flushes(run):
    """Data files without a commit object, and a claim that is open."""
    world = archived()
    commit = next(path for path in world.paths() if "/_commits/" in path and "/00000000000000000009" in path)
    world.files.rm_file(commit)
    world.files.pipe_file(f"{world.root}/{TOPIC}/_claims/0/{9:020d}.json", b"{}")
    code, out, _ = run(world, "verify", TOPIC, "-o", "json")
    assert code == 0
    assert set(kinds(out)) == {"open-claim"}  # the damaged claim keeps orphans from being told
    world.files.rm_file(f"{world.root}/{TOPIC}/_claims/0/{9:020d}.json")
    _, out, _ = run(world, "verify", TOPIC, "-o", "json")
    assert set(kinds(out)) == {"orphan"}
    assert all(one["offsets"] == {"start": 9, "stop": 12} for one in documents(out))


@pytest.mark.parametrize(
    ("damage", "kind", "deep"),
    [
        (lambda world, path: world.files.rm_file(path), "missing-file", False),
        (lambda world, path: world.replace(path, b"PAR1"), "file-size", False),
        (lambda world, path: world.replace(path, b"x" * world.files.size(path)), "unreadable-file", True),
    ],
)
def test_verify_finds_damaged_files(run, damage, kind, deep):
    """By listing; and by reading, with --deep, what a listing cannot tell."""
    world = archived()
    damage(world, next(path for path in world.paths() if path.endswith(".parquet")))
    code, out, _ = run(world, "verify", TOPIC, "-o", "json", *(["--deep"] if deep else []))
    assert (code, kinds(out)) == (5, [kind])
    if deep:
        assert run(world, "verify", TOPIC, "-o", "json")[0] == 0


@pytest.mark.parametrize("number", [0, -1])
def test_verify_finds_damaged_commit_objects(run, number):
    """Named, and the rest is still looked at; the newest, which a reader would fail at first, too."""
    world = archived()
    world.replace([path for path in world.paths() if "/_commits/" in path][number], b"{")
    code, out, _ = run(world, "verify", TOPIC, "-o", "json", "--deep")
    assert (code, kinds(out)) == (5, ["commit"])


def test_verify_compares_with_kafka_record_by_record(run):
    """A record that differs, one that the archive lacks, one that only the archive has (compaction: a warning)."""
    world = Archived()
    world.produce(12)
    records = world.log.records(0)
    changed = [r._replace(value=b"?") if r.offset == 3 else r for r in records if r.offset != 5]
    world.flush(0, 12, records=changed)
    world.log.compact(0, 8, 9)
    code, out, _ = run(world, "verify", TOPIC, "-o", "json", "--deep")
    assert code == 5
    assert {one["kind"]: (one["severity"], one["offsets"]) for one in documents(out)} == {
        "differs": ("error", {"start": 3, "stop": 4}),
        "only-in-kafka": ("error", {"start": 5, "stop": 6}),
        "only-in-archive": ("warning", {"start": 8, "stop": 10}),
    }
    assert run(world, "verify", TOPIC, "-o", "json")[0] == 0


def test_verify_does_not_blame_what_kafka_forgets_meanwhile(run):
    """Retention that passes in mid-comparison makes no difference; nor is a file that is missing read."""
    world = archived()
    world.log.when_asked(0, 0, world.log.expire, 0, 6)
    assert run(world, "verify", TOPIC, "-o", "json", "--deep")[:2] == (0, b"")
    world.files.rm_file(next(path for path in world.paths() if path.endswith(".parquet")))
    assert kinds(run(world, "verify", TOPIC, "-o", "json", "--deep")[1]) == ["missing-file"]


# -- snapshot


def test_a_snapshot_is_taken_shown_verified_and_read(run, tmp_path):
    """The rest is the business of `beam_unified.snapshots`."""
    world, file = gone_from_kafka(), str(tmp_path / "pins.json")
    code, out, err = run(world, "snapshot", "take", file, TOPIC, "-o", "json")
    assert (code, out) == (2, b"")
    assert "only Kafka holds" in err
    code, out, _ = run(world, "snapshot", "take", file, TOPIC, "--stop", "0:11", "-o", "json")
    assert code == 0
    taken = documents(out)
    assert taken[0]["offsets"] == {"start": 0, "stop": 11}
    assert documents(run(world, "snapshot", "show", file, "-o", "json")[1]) == taken
    assert run(world, "snapshot", "verify", file, "--deep", "-o", "json")[:2] == (0, b"")
    code, out, _ = run(world, "cat", TOPIC, "--snapshot", file, "-f", "%o ")
    assert (code, out.split()) == (0, [b"%d" % offset for offset in range(11)])
    world.files.rm_file(next(path for path in world.paths() if path.endswith(".parquet")))
    code, out, _ = run(world, "snapshot", "verify", file, "-o", "json")
    assert code == 5
    assert "is missing" in documents(out)[0]["detail"]


# -- archive


def test_archive_goes_on_where_the_commits_end(run, tmp_path):
    """Up to the end of the log as it is; a line for each new flush, none when there is nothing to do."""
    world = Archived(root=str(tmp_path / "archive"))
    world.produce(7)
    code, out, _ = run(world, "archive", TOPIC, "--flush-records", "3", "-o", "json")
    assert code == 0
    assert [(one["offsets"]["start"], one["offsets"]["stop"]) for one in documents(out)] == [(0, 3), (3, 6), (6, 7)]
    assert run(world, "archive", TOPIC)[:2] == (0, b"")
    world.produce(2)
    assert run(world, "archive", TOPIC)[:2] == (0, b"pins[0] [7, 9)\n")
    index = world.archive.connect().index(TopicPartition(TOPIC, 0))
    assert (index.start, index.stop, len(index)) == (0, 9, 4)
    assert run(world, "verify", TOPIC, "--deep", "--strict", "-o", "json")[:2] == (0, b"")


def test_archive_refuses_a_storage_without_conditional_create(run):
    """Exactly once needs it."""
    world = Archived()
    stores = Stores(world.log.kafka, Archive("http://host/archive"))
    assert main(["archive", TOPIC], obj=stores) == 2
    assert run(world, "archive", TOPIC, "--follow", "-e", "now")[0] == 2


def test_an_interrupt_right_after_a_write_writes_nothing_twice():
    """Ctrl-C may come between a write and its bookkeeping; the rest is written once on the way out."""

    class Interrupted(io.BytesIO):
        def write(self, content):
            super().write(content)
            raise KeyboardInterrupt

    target = Interrupted()
    out = Buffered(target)
    out.add(b"1\n")
    with pytest.raises(KeyboardInterrupt):
        out.flush()
    out.flush()
    assert target.getvalue() == b"1\n"


@pytest.mark.parametrize("command", [["cat", TOPIC], ["positions", TOPIC], ["positions", TOPIC, "-o", "json"]])
def test_a_closed_pipe_ends_quietly(capfd, monkeypatch, command):
    """Exit code 141 and not a word, whoever writes: values, tables, JSON."""
    world = gone_from_kafka()
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(command, obj=Stores(world.log.kafka, world.archive)) == 141
        monkeypatch.undo()
    assert capfd.readouterr() == ("", "")


def test_a_run_leaves_logging_as_it_was():
    """The program may be called from another one."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    assert main(["-vv", "positions", TOPIC], obj=Stores(archived().log.kafka, None)) == 0
    assert (root.level, list(root.handlers)) == before
