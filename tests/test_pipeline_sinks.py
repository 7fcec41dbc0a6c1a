"""pipelines/to_duckdb.py and to_rocksdb.py: whatever becomes of bundles, the databases hold what the log holds."""

import functools
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam
import duckdb
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import AccessType, Options, Rdict

from beam_unified import ARROW_SCHEMA, BadRecordError, KafkaTimestamp, Stop
from beam_unified.testing import InMemoryLog
from pipelines import bundle_sink, to_duckdb, to_rocksdb

TOPIC = "pins"
RECORDS = 60  # of each of two partitions


@pytest.fixture
def log():
    """A topic of updates: some keys often, some deleted; a third is archived and gone from Kafka, a third in both stores."""
    log = InMemoryLog(TOPIC, partitions=2)
    chosen = random.Random(7)
    for at in range(RECORDS):
        for partition in (0, 1):
            value = None if chosen.random() < 0.2 else b"%d" % at
            log.append(partition, value, timestamp=at * 1_000, key=b"%d-%d" % (partition, chosen.randrange(12)))
    for partition in (0, 1):
        log.flush(partition, stop=RECORDS // 3)
        log.flush(partition, stop=2 * RECORDS // 3)
        log.expire(partition, RECORDS // 3)
    return log


def ledger(log):
    """Every record of the log."""
    return [record for partition in (0, 1) for record in log.records(partition)]


def wanted_rows(log):
    return [(one.topic, one.partition, one.offset, one.timestamp * 1_000, one.key, one.value) for one in ledger(log)]


def wanted_entries(log):
    return {one.key: to_rocksdb.Entry(one.partition, one.offset, one.value) for one in ledger(log)}


def duckdb_rows(path):
    query = 'SELECT topic, "partition", "offset", epoch_us(event_time), key, value FROM records ORDER BY ALL'
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(query).fetchall()


def rocksdb_entries(path):
    store = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
    try:
        return {key: to_rocksdb.Entry.decode(stored) for key, stored in store.items()}
    finally:
        store.close()


SINKS = {
    "duckdb": (to_duckdb, to_duckdb.Upsert, duckdb_rows, wanted_rows),
    "rocksdb": (to_rocksdb, to_rocksdb.PutNewest, rocksdb_entries, wanted_entries),
}
each_sink = pytest.mark.parametrize("sink", SINKS)


def run(module, log, path, stop=RECORDS):
    """The pipeline, up to an offset."""
    with beam.Pipeline(runner=FnApiRunner()) as p:
        module.build(
            p, str(path), TOPIC, kafka=log.kafka, archive=log.archive,
            timestamp_fn=KafkaTimestamp(), stop=Stop.offsets({0: stop, 1: stop}),
        )  # fmt: skip


@each_sink
@pytest.mark.rule("R1")
def test_a_run_and_the_same_run_again(sink, log, tmp_path):
    """From both stores, in columns: exactly the ledger, and no more the second time."""
    module, _, found, wanted = SINKS[sink]
    for _ in range(2):
        run(module, log, tmp_path / "db")
        assert found(tmp_path / "db") == wanted(log)


@each_sink
def test_the_command(sink, log, tmp_path, monkeypatch):
    """The path, then Beam's options; up to now."""
    module, _, found, wanted = SINKS[sink]
    here = {"topic": TOPIC, "kafka": log.kafka, "archive": log.archive, "timestamp_fn": KafkaTimestamp()}
    monkeypatch.setattr(module, "build", functools.partial(module.build, **here))
    module.main([str(tmp_path / "db"), "--runner=FnApiRunner"])
    assert found(tmp_path / "db") == wanted(log)


@each_sink
def test_a_run_that_died_and_ran_again(sink, log, tmp_path, monkeypatch):
    """It committed a part, and its bundle failed all the same: nothing is doubled, nothing is missing."""
    module, dofn, found, wanted = SINKS[sink]
    monkeypatch.setattr(bundle_sink, "ROWS", 1)  # every batch is committed at once
    commit, commits = dofn.commit, []

    def commit_and_die(self, rows):
        commit(self, rows)
        commits.append(rows.num_rows)
        if len(commits) == 3:
            raise ConnectionError("killed")

    monkeypatch.setattr(dofn, "commit", commit_and_die)
    with pytest.raises(ConnectionError, match="killed"):
        run(module, log, tmp_path / "db")
    assert 0 < len(found(tmp_path / "db")) < len(wanted(log))
    run(module, log, tmp_path / "db")
    assert found(tmp_path / "db") == wanted(log)


def batch(records):
    """As `output="arrow"` gives it."""
    names = [field.name for field in ARROW_SCHEMA if field.name not in ("headers", "event_time", "timestamp_type")]
    columns = {name: [getattr(one, name) for one in records] for name in names} | {
        "headers": [[] for _ in records],
        "event_time": [datetime.fromtimestamp(one.timestamp / 1_000, UTC) for one in records],
        "timestamp_type": [one.timestamp_type.value for one in records],
    }
    arrays = [pa.array(columns[field.name], field.type) for field in ARROW_SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=ARROW_SCHEMA)


@st.composite
def attempts(draw, count):
    """Bundles as a runner may try them: (numbers of records, whether it gets to its end). Each is in one that does."""
    left = draw(st.permutations(range(count))) if draw(st.booleans()) else list(range(count))
    tried = []
    while left:
        size = draw(st.integers(5, 30))
        bundle, left = left[:size], left[size:]
        tried += [(bundle, True)] * draw(st.integers(1, 2))
        tried += [(bundle[: draw(st.integers(0, size))], False)]
    return draw(st.permutations(tried))


@each_sink
@given(data=st.data())
@settings(max_examples=6)
def test_any_attempts_in_any_order_leave_the_same(sink, data, tmp_path_factory):
    """Bundles cut anywhere, tried twice, given up half way, in any order: the ledger, and the newest of every key."""
    _, dofn, found, wanted = SINKS[sink]
    log, path = _updates(), tmp_path_factory.mktemp("attempts") / "db"
    writer, records = dofn(str(path)), ledger(log)
    for bundle, ends in data.draw(attempts(len(records))):
        writer.start_bundle()
        for start in range(0, len(bundle), 7):
            writer.process(batch([records[number] for number in bundle[start : start + 7]]))
        if ends:
            writer.finish_bundle()
    assert found(path) == wanted(log)


def _updates():
    log = InMemoryLog(TOPIC, partitions=2)
    for at in range(25):
        for partition in (0, 1):
            log.append(partition, b"%d" % at if at % 5 else None, timestamp=at, key=b"%d-%d" % (partition, at % 9))
    return log


def test_a_large_bundle_is_committed_in_parts(monkeypatch):
    """Each row once: what is committed is not held any more."""
    monkeypatch.setattr(bundle_sink, "ROWS", 20)
    writer, commits = to_duckdb.Upsert("nowhere"), []
    monkeypatch.setattr(writer, "commit", lambda rows: commits.append(rows["offset"].to_pylist()))
    records = _updates().records(0)
    writer.start_bundle()
    for start in range(0, 25, 5):
        writer.process(batch(records[start : start + 5]))
    writer.finish_bundle()
    assert commits == [list(range(20)), list(range(20, 25))]


def test_a_key_in_two_partitions_is_an_error(tmp_path):
    """Offsets of two partitions say nothing about which record is newer, so neither is dropped silently."""
    log = InMemoryLog(TOPIC, partitions=2)
    for partition in (0, 1):
        log.append(partition, b"x", timestamp=1, key=b"k")
    writer = to_rocksdb.PutNewest(str(tmp_path / "db"))
    writer.start_bundle()
    writer.process(batch(ledger(log)))
    with pytest.raises(BadRecordError, match="key b'k' is at offset 0 of partition 0 and at offset 0 of partition 1"):
        writer.finish_bundle()


@each_sink
def test_two_workers_take_turns(sink, log, tmp_path):
    """A bundle that finds the database in use waits for it."""
    _, dofn, found, wanted = SINKS[sink]
    records = ledger(log)

    def work(number):
        writer = dofn(str(tmp_path / "db"))
        for start in range(0, len(records), 15):
            writer.start_bundle()
            writer.process(batch(records[(start + number * 60) % 120 :][:15]))
            writer.finish_bundle()

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, range(2)))
    assert found(tmp_path / "db") == wanted(log)


_HOLD = "import {0}, sys; held = {0}.{1}; print('held', flush=True); sys.stdin.read()"
HOLDERS = {
    "duckdb": _HOLD.format("duckdb", "connect(sys.argv[1])"),
    "rocksdb": _HOLD.format("rocksdict", "Rdict(sys.argv[1], rocksdict.Options(raw_mode=True))"),
}
TURNS: dict[str, Any] = {"duckdb": to_duckdb.Upsert.commit, "rocksdb": to_rocksdb.PutNewest._put}


@each_sink
def test_a_bundle_waits_while_another_process_has_the_file(sink, log, tmp_path, monkeypatch):
    """It comes to nothing the first time, and is committed when the other one is done."""
    _, dofn, found, wanted = SINKS[sink]
    path = str(tmp_path / "db")
    writer, turn = dofn(path), TURNS[sink].retry
    holder = [sys.executable, "-c", HOLDERS[sink], path]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        waits = []

        def let_go(state):
            waits.append(state)
            process.communicate()

        monkeypatch.setattr(turn, "before_sleep", let_go)
        writer.start_bundle()
        writer.process(batch(ledger(log)))
        writer.finish_bundle()
    assert len(waits) == 1
    assert found(path) == wanted(log)
