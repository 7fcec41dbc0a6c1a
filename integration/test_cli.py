"""The command line on a real broker and a real S3 server: what it writes, and how it ends; as a process where that matters."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from beam_unified import Archive, Kafka, KafkaSyncTopic, TopicPartition
from beam_unified.cli.app import main
from beam_unified.kafka.sync_connection import KafkaCoordinator
from beam_unified.sync.reports import LimitChange, Phase, RateLimit, Report
from integration.services.kafka import KafkaBroker
from integration.services.object_store import ObjectStore
from integration.unlimited_log import Scenario

PARTITIONS = 2
ARCHIVED, IN_KAFKA, BOTH = 3_000, 1_000, 200
TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs command lines with the environment that an operator would have set."""

    env: Mapping[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "beam_unified.cli", *arguments],
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, code: int = 0) -> tuple[bytes, str]:
        """Output and errors of one that ends with `code`; in this process, which saves it the imports."""
        out, err = io.TextIOWrapper(io.BytesIO()), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.env.items():
                patch.setenv(name, value)
            ended = main(arguments)
        out.flush()
        assert ended == code, err.getvalue()
        assert "Traceback" not in err.getvalue()
        return out.buffer.getvalue(), err.getvalue()

    def rows(self, *arguments: str, code: int = 0) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.run(*arguments, "-o", "json", code=code)[0].splitlines()]


@pytest.fixture(scope="module")
def archive(object_store: ObjectStore) -> Archive:
    return Archive(f"s3://{object_store.make_bucket('cli')}/merced", object_store.storage_options)


@pytest.fixture(scope="module")
def shell(kafka: KafkaBroker, archive: Archive) -> Shell:
    return Shell(
        {
            "BEAM_UNIFIED_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "BEAM_UNIFIED_ARCHIVE": archive.root,
            "BEAM_UNIFIED_STORAGE_OPTIONS": json.dumps(dict(archive.storage_options)),
            "HOME": "/nonexistent",  # no file of the user
        }
    )


@pytest.fixture(scope="module")
def scenario(kafka: KafkaBroker, archive: Archive) -> Scenario:
    """The first part in the archive, the last in Kafka, some in both."""
    made = Scenario(kafka, archive, partitions=PARTITIONS)
    made.produce(ARCHIVED)
    made.archive_and_expire(flushes=3, keep=BOTH)
    made.produce(IN_KAFKA)
    return made


@pytest.mark.rule("R1")
def test_cat_writes_what_was_produced_over_both_stores(shell: Shell, scenario: Scenario):
    """Every offset of the producer's ledger once, in order, with its value; the store changes at the handoff."""
    with shell.start("cat", scenario.topic, "-o", "json") as process:
        out, err = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, err) == (0, b"")
    found = [json.loads(line) for line in out.splitlines()]
    for partition, times in scenario.ledger.times.items():
        mine = [one for one in found if one["partition"] == partition]
        assert [one["offset"] for one in mine] == sorted(times)
        assert [json.loads(str(one["value"]))["time"] for one in mine] == [times[offset] for offset in sorted(times)]
        assert [one["store"] for one in mine] == ["archive"] * ARCHIVED + ["kafka"] * IN_KAFKA
    assert len(found) == PARTITIONS * (ARCHIVED + IN_KAFKA)


def test_cat_ends_quietly_when_nobody_reads_on(shell: Shell, scenario: Scenario):
    """`cat | head -1`: exit code 141, and not a word."""
    with shell.start("cat", scenario.topic, "-o", "json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        first = json.loads(process.stdout.readline())
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(TIMEOUT_S) == 141
    assert first["offset"] == 0
    assert err == b""


def test_cat_follows_until_it_is_interrupted(shell: Shell, kafka: KafkaBroker, archive: Archive):
    """What comes is written at once; Ctrl-C ends it with 130, one word and no traceback."""
    fresh = Scenario(kafka, archive, partitions=PARTITIONS)
    fresh.produce(1)
    fresh.archive_and_expire(flushes=1)
    with shell.start("cat", fresh.topic, "--follow", "-f", r"%p %o\n") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        seen = {tuple(map(int, process.stdout.readline().split())) for _ in range(PARTITIONS)}
        fresh.produce(1)
        seen |= {tuple(map(int, process.stdout.readline().split())) for _ in range(PARTITIONS)}
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130
        assert process.stderr.read().decode().split() == ["interrupted"]
        assert process.stdout.read() == b""
    assert seen == {(partition, offset) for partition in range(PARTITIONS) for offset in range(2)}


def test_positions_and_plan_say_what_cat_reads(shell: Shell, scenario: Scenario):
    """Ranges of both stores, the handoff, what lies in neither; files, bytes, offsets."""
    for row in shell.rows("positions", scenario.topic):
        assert row["archive"] == {"start": 0, "stop": ARCHIVED}
        assert row["kafka"] == {"start": ARCHIVED - BOTH, "stop": ARCHIVED + IN_KAFKA}
        assert (row["handoff"], row["lag"], row["gaps"], row["flushes"]) == (ARCHIVED, IN_KAFKA, [], 3)
    for row in shell.rows("plan", scenario.topic, "--start", "1500"):
        files, prefix = scenario.archive.file_system()
        sizes = [
            files.size(path)
            for path in files.find(f"{prefix}/{scenario.topic}")
            if path.endswith(".parquet")
            and path.rpartition("/")[2].startswith(f"{row['partition']}-")
            and int(path.rpartition("/")[2].split("-")[2]) > 1_500
        ]
        assert (row["flushes"], row["files"], row["archive_bytes"]) == (2, len(sizes), sum(sizes))
        assert row["kafka_offsets"] == IN_KAFKA
        assert int(str(row["kafka_bytes"])) > IN_KAFKA * len('{"n": 3000, "time": 1370000000000}')
    table, _ = shell.run("positions", scenario.topic)
    assert len(table.splitlines()) == 1 + PARTITIONS


@pytest.mark.rule("B2")
@pytest.mark.rule("B4")
def test_errors_have_their_exit_codes_and_hide_secrets(shell: Shell, scenario: Scenario):
    """Wrong option 2; no such topic, wrong credentials, no broker 3. A secret is shown by none of them."""
    assert "not a duration" in shell.run("cat", scenario.topic, "--gap-timeout", "soon", code=2)[1]
    assert "does not exist" in shell.run("positions", "no-such-topic", code=3)[1]
    sasl = [
        "security_protocol=SASL_PLAINTEXT",
        "sasl_mechanism=PLAIN",
        "sasl_plain_username=me",
        "sasl_plain_password=hush-hush",
    ]
    no_broker = ["-b", "127.0.0.1:1", *(word for setting in sasl for word in ("-X", setting))]
    for wrong in (["-S", "secret=hush-hush-hush"], no_broker):
        out, err = shell.run("verify", scenario.topic, *wrong, code=3)
        assert "Check the" in err
        assert "hush" not in out.decode() + err
    assert "above the end" in shell.run("cat", scenario.topic, "-p", "0", "-s", "999999", "-e", "9999999", code=4)[1]


def test_a_file_says_where_the_log_is(shell: Shell, scenario: Scenario, object_store: ObjectStore, tmp_path):
    """TOML in place of the environment; the secret in a file of its own."""
    secret = tmp_path / "secret"
    secret.write_text(f"{object_store.secret_key}\n")
    file = tmp_path / "log.toml"
    file.write_text(
        f'[kafka]\nbootstrap_servers = "{scenario.broker.bootstrap_servers}"\n[archive]\nroot = "{scenario.archive.root}"\n'
        f'storage_options = {{ key = "{object_store.access_key}", secret = {{ file = "{secret}" }}, '
        f'client_kwargs = {{ endpoint_url = "{object_store.endpoint_url}" }} }}\n'
    )
    bare = Shell({"HOME": "/nonexistent"})
    found, _ = bare.run("cat", scenario.topic, "--config", str(file), "-n", "3", "-f", "%o ")
    assert found == b"0 1 2 "


@pytest.mark.rule("A2")
def test_a_topic_is_archived_and_verified(shell: Shell, kafka: KafkaBroker, archive: Archive):
    """By the command line alone: archived without Beam, whole, the same as in Kafka; then damaged, and exit code 5."""
    fresh = Scenario(kafka, archive, partitions=PARTITIONS)
    fresh.produce(1_000)
    flushes = shell.rows(
        "archive", fresh.topic, "--flush-records", "400", "--notify", kafka.create_topic(f"{fresh.topic}-commits", 1)
    )
    assert sorted((one["partition"], one["offsets"]["start"]) for one in flushes) == [  # type: ignore[index]
        (partition, start) for partition in range(PARTITIONS) for start in (0, 400, 800)
    ]
    assert shell.rows("verify", fresh.topic, "--deep", "--strict") == []
    announced = shell.rows("cat", f"{fresh.topic}-commits", "--kafka-only")
    assert len(announced) == len(flushes)
    kafka.delete_records(fresh.topic, dict.fromkeys(range(PARTITIONS), 1_000))
    assert len(shell.rows("cat", fresh.topic)) == PARTITIONS * 1_000

    files, prefix = archive.file_system()
    commits = sorted(files.find(f"{prefix}/{fresh.topic}/_commits/0"))
    files.rm_file(commits[1])
    files.rm_file(next(path for path in files.find(f"{prefix}/{fresh.topic}") if f"/1-{0:020d}-" in path))
    found = shell.rows("verify", fresh.topic, code=5)
    assert {str(one["kind"]) for one in found} == {"gap", "orphan", "missing-file"}
    assert next(one for one in found if one["kind"] == "gap")["offsets"] == {"start": 400, "stop": 800}
    assert shell.rows("positions", fresh.topic, "-p", "0", code=4)[0]["gaps"] == [{"start": 400, "stop": 800}]


def test_an_archiver_that_follows_is_interrupted_and_begun_again(shell: Shell, kafka: KafkaBroker, archive: Archive):
    """Ctrl-C loses nothing and doubles nothing: the next one goes on where the commits end."""
    fresh = Scenario(kafka, archive, partitions=1)
    fresh.produce(500)
    with shell.start("archive", fresh.topic, "--follow", "--flush-records", "200") as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [
            f"{fresh.topic}[0] [{start}, {start + 200})\n".encode() for start in (0, 200)
        ]
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130
    assert shell.run("archive", fresh.topic)[0] == f"{fresh.topic}[0] [400, 500)\n".encode()
    assert shell.rows("verify", fresh.topic, "--deep", "--strict") == []


def test_a_snapshot_is_taken_verified_and_read(shell: Shell, scenario: Scenario, tmp_path):
    """Without a broker for all but the taking."""
    file = str(tmp_path / "pins.json")
    stop = ",".join(f"{partition}:{ARCHIVED}" for partition in range(PARTITIONS))
    taken = shell.rows("snapshot", "take", file, scenario.topic, "--stop", stop)
    assert [one["offsets"] for one in taken] == [{"start": 0, "stop": ARCHIVED}] * PARTITIONS
    no_kafka = Shell({**shell.env, "BEAM_UNIFIED_BOOTSTRAP_SERVERS": ""})
    assert no_kafka.rows("snapshot", "show", file) == taken
    assert no_kafka.rows("snapshot", "verify", file, "--deep") == []
    found, _ = no_kafka.run("cat", scenario.topic, "--snapshot", file, "-f", "%o ", "-s", "2990")
    assert found.split() == [b"%d" % offset for offset in range(2_990, ARCHIVED)] * PARTITIONS
    assert "damaged" in no_kafka.run("snapshot", "show", _damaged(file), code=2)[1]


def _damaged(file: str) -> str:
    broken = Path(f"{file}.broken")
    broken.write_text(Path(file).read_text().replace('"start": 0', '"start": "0"'))
    return str(broken)


@pytest.mark.rule("S4")
def test_a_group_is_watched_and_throttled(shell: Shell, kafka: KafkaBroker):
    """A row a reader, by its newest report; a changed limit gets into the group's log, and shows."""
    group, run = f"group-{os.getpid()}", "run-1"
    source = KafkaSyncTopic(kafka=Kafka(kafka.bootstrap_servers))
    coordinator = source.connect(group, run)
    try:
        for sequence, (position, phase) in enumerate([(100, Phase.ARCHIVE), (700, Phase.HELD_BY_DRIFT)]):
            coordinator.publish(_report(0, position, phase, sequence))
            coordinator.publish(_report(1, 50, Phase.KAFKA, sequence))
            _wait_for(coordinator, _report(1, 50, Phase.KAFKA, sequence))
        ahead, behind = shell.rows("watch", group, "--once")
        assert (ahead["phase"], ahead["held_by"], ahead["position"], ahead["run"]) == (
            "held_by_drift",
            "drift",
            700,
            run,
        )
        assert "pins[1], kafka" in str(ahead["waits_for"])
        assert float(str(ahead["offsets_per_s"])) > 0
        assert (behind["held_by"], behind["offsets_per_s"]) == (None, 0.0)
        assert behind["watermark_ms"] == 50
        shell.run("throttle", group, "pins", "--records", "250")
        _wait_for(coordinator, LimitChange(topic="pins", limit=RateLimit(records_per_s=250)))
        assert shell.rows("watch", group, "--once", "--run", run)[0]["limit_records_per_s"] == 250
        assert "does not read topic 'views'" in shell.run("throttle", group, "views", "--unlimited", code=2)[1]
        assert "has no run 'run-2'" in shell.run("watch", group, "--once", "--run", "run-2", code=2)[1]
        assert "does not exist" in shell.run("watch", "another-group", "--once", code=3)[1]
        with shell.start("watch", group, "-o", "json", "--interval", "1s") as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["run"] == run
            process.send_signal(signal.SIGINT)
            assert process.wait(TIMEOUT_S) == 130
    finally:
        coordinator.close()


def _report(partition: int, position: int, phase: Phase, sequence: int) -> Report:
    return Report(
        member=TopicPartition("pins", partition),
        watermark=position * 1_000,
        position=position,
        phase=phase,
        partitions=2,
        author="test",
        sequence=sequence,
    )


def _wait_for(coordinator: KafkaCoordinator, entry: object) -> None:
    """Until the log has it; the test's own timeout is the limit."""
    while entry not in [logged.entry for logged in coordinator.drain()]:
        coordinator.wait(0.1)
