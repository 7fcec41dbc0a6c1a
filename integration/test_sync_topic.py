"""Synchronisation over a topic of the real broker: the contract of coordinators, brokers that stop, processes that agree."""

import json
import logging
import os
import sys
import time
import uuid

import psutil
import pytest
from kafka import KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from tenacity import Retrying, stop_after_delay, wait_fixed

from beam_unified import Kafka, TopicPartition
from beam_unified.errors import ConfigError, KafkaUnavailableError
from beam_unified.kafka.sync_topic import KafkaSyncTopic, set_rate_limit
from beam_unified.stores import Fetched
from beam_unified.sync.policy import Hold
from beam_unified.sync.reports import RateLimit
from beam_unified.sync.synchronizer import Synchronizer
from integration.sync_member import group_of
from tests.contracts.coordinator import CoordinatorContract, read, read_until, report
from tests.sync_world import Reader, most_in_window

SECOND = 1_000_000
LOST_S = 30 if os.environ.get("HYPOTHESIS_PROFILE") == "nightly" else 8
UNTIL = "1970-01-01T00:05:00Z"
UNTIL_MICROS = 300 * SECOND


class TestKafkaSyncTopic(CoordinatorContract):
    """The log in a topic."""

    @pytest.fixture
    def source(self, kafka):
        return KafkaSyncTopic(kafka=Kafka(kafka.bootstrap_servers))

    @pytest.mark.rule("S6")
    def test_the_topic_is_created_compacted_with_one_partition(self, source, kafka, connect):
        """For one order, and the newest report of each member; the broker writes the timestamps."""
        name = f"fresh-{uuid.uuid4().hex[:8]}"
        coordinator = connect(group=name)
        read_until(coordinator, lambda _: coordinator.caught_up())
        topic = f"beam-unified-sync-{name}"
        with kafka.admin() as admin:
            (description,) = admin.describe_topics([topic])
            configs = str(admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        assert len(description["partitions"]) == 1
        assert "compact,delete" in configs
        assert "LogAppendTime" in configs

    def test_a_topic_of_several_partitions_is_refused(self, kafka):
        """They have no common order. Said by the next reader that asks."""
        topic = kafka.create_topic(f"two-{uuid.uuid4().hex[:8]}", 2)
        coordinator = KafkaSyncTopic(kafka=Kafka(kafka.bootstrap_servers), topic=topic).connect("group", "run")
        with pytest.raises(ConfigError, match="has 2 partitions, and must have one"):
            read_until(coordinator, lambda _: False)
        coordinator.close()

    def test_what_others_write_into_the_topic_is_passed_over(self, source, kafka, connect, run_id, caplog):
        """Also a value under a key of the run that is no report; it is said with its offset."""
        coordinator = connect()
        coordinator.publish(report(0, 1, 1))
        read(coordinator, 1)
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
        mine = b'[1,"group","%s","report","pins",0]' % run_id.encode()
        for key, value in [(b"\xff", b"x"), (mine, b"{}"), (mine, None), (b"[]", None)]:
            producer.send("beam-unified-sync-group", value, key)
        producer.flush()
        producer.close()
        coordinator.publish(report(1, 2, 2))
        assert [logged.entry.watermark for logged in read(coordinator, 1)] == [2]
        assert "not an entry of a sync group, skipped" in caplog.text

    @pytest.mark.rule("S6")
    def test_old_runs_are_forgotten_when_the_next_one_begins(self, kafka, connect):
        """A week after their last word; one whose newest message is younger is left alone as a whole."""
        topic = kafka.create_topic(f"beam-unified-sync-{uuid.uuid4().hex[:8]}")
        group = topic.removeprefix("beam-unified-sync-")
        now_ms, day_ms = round(time.time() * 1_000), 86_400_000
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers)
        for run, member, days in [("old", 0, 30), ("old", 1, 8), ("paused", 0, 30), ("paused", 1, 6)]:
            key = json.dumps([1, group, run, "report", "pins", member], separators=(",", ":")).encode()
            producer.send(topic, b"{}", key, timestamp_ms=now_ms - days * day_ms)
        producer.flush()
        producer.close()
        coordinator = connect(group=group)
        read_until(coordinator, lambda _: coordinator.caught_up())
        coordinator.close()
        log, tp = Kafka(kafka.bootstrap_servers).connect(), TopicPartition(topic, 0)
        for attempt in Retrying(stop=stop_after_delay(10), wait=wait_fixed(0.1)):
            with attempt:
                fetched = log.fetch(tp, 4, max_records=10, timeout_ms=500)
                assert isinstance(fetched, Fetched)
                assert fetched.batch is not None
                assert {record.key for record in fetched.batch.records() if record.value is None} == {
                    json.dumps([1, group, "old", "report", "pins", n], separators=(",", ":")).encode() for n in (0, 1)
                }
        log.close()

    @pytest.mark.rule("S6")
    def test_a_broker_that_is_not_there_yet_is_waited_for(self, caplog):
        """Nothing is handed out, nothing blocks, nobody is let go; said once; closing takes seconds and says what was lost."""
        coordinator = KafkaSyncTopic(kafka=Kafka("127.0.0.1:1", {"bootstrap_timeout_ms": 200})).connect("group", "run")
        coordinator.publish(report(0, 1, 1))
        for attempt in Retrying(stop=stop_after_delay(20), wait=wait_fixed(0.1)):
            with attempt:
                assert "lost topic 'beam-unified-sync-group'" in caplog.text
        assert list(coordinator.drain()) == []
        assert not coordinator.caught_up()
        coordinator.close()
        assert caplog.text.count("lost topic") == 1
        assert "1 reports have not got into topic" in caplog.text

    @pytest.mark.rule("S4")
    def test_a_limit_of_what_nobody_reads_is_refused(self, source):
        """A wrong run id or topic would change nothing, silently."""
        with pytest.raises(ConfigError, match="run 'no-such' of sync group 'group' does not read topic 'pins'"):
            set_rate_limit(source, "pins", RateLimit(records_per_s=1), group="group", run_id="no-such")
        nowhere = KafkaSyncTopic(kafka=Kafka("127.0.0.1:1", {"bootstrap_timeout_ms": 200}))
        with pytest.raises(KafkaUnavailableError, match="no answer through topic 'beam-unified-sync-group'"):
            set_rate_limit(nowhere, "pins", RateLimit(), group="group", run_id="run", timeout_s=0.5)


@pytest.mark.rule("S6")
def test_brokers_that_stop_open_no_gate_and_all_goes_on_when_they_are_back(kafka, caplog):
    """While they are away the awaited reader passes the instant; the one that waits is not to know."""
    caplog.set_level(logging.WARNING, "beam_unified")
    run_id = uuid.uuid4().hex
    groups = [group_of(kafka.bootstrap_servers, run_id, ["weather", "flights"]) for _ in range(2)]
    weather = Reader(TopicPartition("weather", 0), groups[0].rules(["weather"]), batch=1)
    flights = Reader(TopicPartition("flights", 0), groups[1].rules(["flights"], wait_for={"weather": UNTIL}), batch=1)
    workers = [(Synchronizer(groups[0]), weather), (Synchronizer(groups[1]), flights)]
    broker = [psutil.Process(pid) for pid in kafka.run.processes(kafka.name)]
    try:
        turns(workers, lambda: (weather.watermark or 0) > 50 * SECOND)
        for process in broker:
            process.suspend()
        stopped = time.monotonic()
        turns(workers, lambda: (weather.watermark or 0) > UNTIL_MICROS and time.monotonic() > stopped + LOST_S)
        assert flights.position == 0
        assert flights.turn.hold is Hold.GATE
        assert workers[1][0].health().lost_ms > 1_000 * (LOST_S - 4)
    finally:
        for process in broker:
            process.resume()
    turns(workers, lambda: flights.position > 0)
    turns(workers, lambda: caplog.text.count("the coordinator is back") == 2)
    assert workers[1][0].health().lost_ms == 0
    for synchronizer, _ in workers:
        synchronizer.close()
    assert caplog.text.count("reports do not come back from the coordinator") == 2


class Workers:
    """Processes of one run."""

    def __init__(self, run, kafka, **common):
        self._run, self._common = run, {"servers": kafka.bootstrap_servers, "run_id": uuid.uuid4().hex, **common}
        self.run_id = self._common["run_id"]

    def start(self, name, **said):
        return self._run.spawn(
            name, [sys.executable, "-m", "integration.sync_member", json.dumps({**self._common, **said})]
        )

    def lines(self, name):
        log = self._run.log(name)
        text = log.read_text() if log.exists() else ""
        return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]

    def wait(self, name, condition):
        for attempt in Retrying(stop=stop_after_delay(60), wait=wait_fixed(0.1)):
            with attempt:
                assert any(condition(line) for line in self.lines(name)), self._run.log_tail(name)


@pytest.mark.rule("S3")
def test_a_gate_between_two_processes_stays_closed_through_a_kill(service_run, kafka):
    """Only the topic connects them. The awaited process dies before the instant, and the waiting one goes on waiting."""
    workers = Workers(service_run, kafka, topics=["weather", "flights"], partition=0, partitions=1, batch=1)
    tag = workers.run_id[:6]
    first = workers.start(f"weather-{tag}", topic="weather")
    waiting = workers.start(f"flights-{tag}", topic="flights", wait_for={"weather": UNTIL})
    workers.wait(f"weather-{tag}", lambda line: (line["watermark"] or 0) > 100 * SECOND)
    workers.wait(f"flights-{tag}", lambda line: line["hold"] == "gate")
    first.kill()
    killed_at = workers.lines(f"weather-{tag}")[-1]["watermark"]
    assert killed_at < UNTIL_MICROS
    second = workers.start(f"weather2-{tag}", topic="weather")
    workers.wait(f"flights-{tag}", lambda line: line["records"] > 0)
    opened = next(line for line in workers.lines(f"flights-{tag}") if line["records"])
    reached = next(line for line in workers.lines(f"weather2-{tag}") if (line["watermark"] or 0) >= UNTIL_MICROS)
    assert opened["at"] >= reached["at"]
    pids = {line["pid"] for name in ("weather", "weather2", "flights") for line in workers.lines(f"{name}-{tag}")}
    assert len(pids) == 3
    for process in (second, waiting):
        process.kill()


@pytest.mark.rule("S4")
def test_a_rate_over_two_processes_holds_and_is_changed_while_they_run(service_run, kafka):
    """Never above 1.1 x the limit over any ten seconds, through a kill; a new limit is obeyed by both."""
    limit = 400
    workers = Workers(service_run, kafka, topics=["pins"], topic="pins", partitions=2, batch=1_000)
    tag, limited = workers.run_id[:6], {"limit": {"records_per_s": limit}}
    living = [workers.start(f"pins{partition}-{tag}", partition=partition, **limited) for partition in (0, 1)]
    for name in ("pins0", "pins1"):
        workers.wait(f"{name}-{tag}", lambda line: (line["watermark"] or 0) > 1_000 * SECOND)
    living.pop().kill()
    living.append(workers.start(f"pins2-{tag}", partition=1, **limited))
    workers.wait(f"pins2-{tag}", lambda line: (line["watermark"] or 0) > 1_500 * SECOND)
    reads = sorted((line["at"], line["records"]) for n in range(3) for line in workers.lines(f"pins{n}-{tag}"))
    assert most_in_window(reads, 10_000) <= 1.1 * 10 * limit
    source = KafkaSyncTopic(kafka=Kafka(kafka.bootstrap_servers))
    set_rate_limit(source, "pins", RateLimit(records_per_s=limit / 4), group="processes", run_id=workers.run_id)
    since = time.time() * 1_000 + 2_000  # two report intervals
    for name in ("pins0", "pins2"):
        workers.wait(f"{name}-{tag}", lambda line: line["at"] > since + 5_000)
    reads_at = [
        (line["at"], line["records"]) for n in (0, 2) for line in workers.lines(f"pins{n}-{tag}") if line["at"] > since
    ]
    assert most_in_window(sorted(reads_at), 5_000) <= 1.1 * 5 * limit / 4 + limit / 8
    for process in living:
        process.kill()


def turns(workers, until, timeout_s=90):
    """Each reader in turn, until the condition holds."""
    deadline = time.monotonic() + timeout_s
    while not until():
        for synchronizer, reader in workers:
            reader.take_turn(synchronizer)
        assert time.monotonic() < deadline, [reader for _, reader in workers]
        time.sleep(0.02)
