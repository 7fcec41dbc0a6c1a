"""docs/log-agents.md on the real things: rsyslog and the broker both go away in the middle; nothing is lost, nothing is double."""

import json
import re
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import FixedWindows, GlobalWindows

from beam_unified import JsonField, Kafka, ReadUnified, Stop, TopicPartition
from integration.services.rsyslog import Rsyslog

_PAGE = (Path(__file__).parents[2] / "docs" / "log-agents.md").read_text(encoding="utf-8")
_BLOCKS = dict(re.findall(r'^```\w+ title="([a-z.-]+)"\n(.*?)^```$', _PAGE, re.MULTILINE | re.DOTALL))


# What Rsyslog.start calls them.
_TEXTS = {"configuration": "rsyslog.conf", "before_start": "before-start.sh", "after_stop": "after-stop.sh"}


def named(block):
    """What a block of Python on the page defines."""
    names: dict[str, Any] = {}
    exec(_BLOCKS[block], names)
    return names


class Orders:
    """A log file, a topic, and between them what the page sets up, in folders of our own."""

    def __init__(self, broker, run, folder):
        self.broker, self.kafka = broker, Kafka(broker.bootstrap_servers)
        self.topic = broker.create_topic(f"orders-{uuid.uuid4().hex[:8]}", partitions=2)
        self.log = folder / "orders.log"
        self.log.touch()
        self.spool = Rsyslog.folder(run)
        self.writer, self.written = named("writer.py")["Orders"](self.log), 0
        texts = {name: self.at_home(_BLOCKS[block]) for name, block in _TEXTS.items()}
        self.agent = Rsyslog.start(run, self.log, **texts)

    def at_home(self, text):
        for place, ours in (
            ("/var/spool/rsyslog", str(self.spool)),
            ("/var/log/shop", str(self.log.parent)),
            ("broker:9092", self.broker.bootstrap_servers),
            ('topic="orders"', f'topic="{self.topic}"'),
        ):
            text = text.replace(place, ours)
        return text

    def write(self, lines):
        for _ in range(lines):
            self.writer.write(f"order {self.written}, für Zoë")
            self.written += 1

    def rotate(self):
        self.log.rename(self.log.with_name(f"orders.log.{len(self.files())}"))
        self.log.touch()

    def files(self):
        return list(self.log.parent.glob("orders.log*"))

    def lines(self):
        """What was written, a line an element, as bytes."""
        return [line for path in self.files() for line in path.read_bytes().splitlines()]

    def left_undelivered(self):
        return any((self.spool / name).exists() for name in ("spool.qi", "undelivered"))

    def wait_until_read(self):
        """Until rsyslog has come to the end of the file. Delivered is another matter."""
        wait_for(lambda: self.agent.position() == self.log.stat().st_size, "end of the file")

    def wait_until_arrived(self):
        wait_for(lambda: len(self.arrived()) >= self.written, "last line")

    def arrived(self):
        """How often each line is in the topic."""
        log: Any = self.kafka.connect()
        found = Counter[bytes]()
        for tp in (TopicPartition(self.topic, partition) for partition in (0, 1)):
            at, end = 0, log.bounds(tp).stop
            while at < end:
                fetched = log.fetch(tp, at, max_records=10_000, timeout_ms=500)
                at = fetched.next_offset
                found.update(record.value for record in (fetched.batch.records() if fetched.batch else []))
        log.close()
        return found


@pytest.fixture
def orders(kafka, service_run, tmp_path):
    yield Orders(kafka, service_run, tmp_path)
    service_run.stop(Rsyslog.name)


def wait_for(reached, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < deadline, f"no {what} in {seconds} s"
        time.sleep(0.2)


def test_every_line_arrives_and_leaves_the_pipeline_once(orders, prism):
    """Killed, stopped and rotated while the broker is there, while it is away, and while it has just come back."""
    agent, broker = orders.agent, orders.broker
    orders.write(100)
    orders.wait_until_arrived()
    agent.stop()
    assert not orders.left_undelivered()
    orders.write(100)
    agent.start_again()
    orders.wait_until_arrived()
    assert set(orders.arrived().values()) == {1}, "a stop that leaves nothing to deliver costs no duplicates"

    broker.kill()
    orders.write(400)
    orders.wait_until_read()
    agent.kill()  # what it has read is in its memory, and in librdkafka's
    orders.write(100)
    orders.rotate()
    orders.write(100)
    agent.start_again()
    orders.wait_until_read()
    agent.stop()  # what it has read is in its spool
    assert orders.left_undelivered()
    agent.start_again()
    orders.write(100)
    orders.wait_until_read()
    agent.kill()  # and what was in its spool is nowhere any more
    agent.start_again()

    broker.start_again()
    orders.write(100)
    agent.kill()
    orders.write(100)
    agent.start_again()
    orders.rotate()
    orders.write(100)
    orders.wait_until_arrived()

    arrived, written = orders.arrived(), orders.lines()
    assert len(written) == orders.written
    assert arrived.keys() == set(written)
    assert arrived.total() > len(written), "nothing came twice: this shows nothing about the pipeline"
    options = ["--runner=PrismRunner", f"--prism_location={prism}", "--experiments=disable_prism_server_singleton"]
    with beam.Pipeline(options=PipelineOptions(options)) as p:
        once = named("once.py")["orders"](p, orders.topic, orders.kafka, stop=Stop.now())
        assert_that(once | "again" >> beam.Map(json.dumps), each_once(written), label="in state")
    with beam.Pipeline(options=PipelineOptions(options)) as p:
        times = JsonField("at", unit="ms")
        values = p | ReadUnified(orders.topic, orders.kafka, None, timestamp_fn=times, stop=Stop.now())
        distinct = (
            values | beam.WindowInto(FixedWindows(3_600)) | beam.Distinct() | beam.Map(lambda line: line.decode())
        )
        assert_that(distinct | "all" >> beam.WindowInto(GlobalWindows()), each_once(written), label="in windows")


def each_once(lines):
    """A matcher that does not print thousands of them."""
    expected = Counter(line.decode() for line in lines)

    def matches(actual):
        found = Counter(actual)
        lost, double = expected - found, found - expected
        if lost or double:
            raise AssertionError(f"{lost.total()} lost, {double.total()} too many, {[*lost, *double][:3]}")

    return matches
