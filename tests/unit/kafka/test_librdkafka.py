"""The connection over librdkafka, against librdkafka's own broker in this process: what it leaves behind, and how it moves."""

import contextlib
import gc
import logging
import os
import random
import signal
from pathlib import Path

import pytest
from confluent_kafka import Producer
from tenacity import Retrying, stop_after_delay, wait_fixed

from beam_unified.errors import ConfigError, KafkaSecurityError, KafkaUnavailableError
from beam_unified.kafka import librdkafka
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.librdkafka import ConnectedConfluent
from beam_unified.kafka.librdkafka_settings import translated
from beam_unified.kafka.messages import MessageBatch
from beam_unified.kafka.security import Security
from beam_unified.offsets import TopicPartition
from beam_unified.stores import Fetched
from beam_unified.testing import ManualClock

# kafka-python 3.0.12 drops the socket of a connection that is still being made when it is closed (looked at 2026-11).
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")

SECRET = "marker-5f2c"
RECORDS = 20_000


class Broker:
    """A broker of the client's own tests, with one topic of one partition, filled."""

    tp = TopicPartition("pins", 0)

    def __init__(self):
        settings = {"bootstrap.servers": "x", "test.mock.num.brokers": 1, "log_level": 0, "batch.num.messages": 500}
        self._producer = Producer({**settings, "queue.buffering.max.messages": RECORDS, "linger.ms": 5})
        (broker,) = self._producer.list_topics(timeout=5).brokers.values()
        self.servers = f"{broker.host}:{broker.port}"
        for number in range(RECORDS):
            self._producer.produce(self.tp.topic, b"%d" % number, b"key", 0)
        self._producer.flush()

    def produce(self, tp, value):
        """One record more."""
        self._producer.produce(tp.topic, value, partition=tp.partition)
        self._producer.flush()

    def kafka(self, **config):
        """`api_version` is for kafka-python alone, which cannot find out that of this broker."""
        return Kafka(self.servers, {"api_version": (2, 0), **config}, client="confluent")


@pytest.fixture(scope="module")
def broker():
    return Broker()


@pytest.fixture(autouse=True)
def _collected_here():
    """The client's warnings about itself come where they are expected."""
    yield
    gc.collect()


@pytest.fixture
def log(broker):
    log = broker.kafka().connect()
    yield log
    log.close()


def threads():
    """Those of librdkafka in this process."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that has just ended
            names.append((task / "comm").read_text(encoding="utf-8").strip())
    return sorted(name for name in names if name.startswith("rdk:"))


def check_left(before):
    """The system takes a moment to forget a thread that has ended."""
    for attempt in Retrying(stop=stop_after_delay(5), wait=wait_fixed(0.02), reraise=True):
        with attempt:
            assert threads() == before


def offsets_from(log, tp, offset, count, **options):
    """So many offsets, however many fetches it takes."""
    found: list[int] = []
    while len(found) < count:
        fetched = log.fetch(tp, offset, max_records=1_000, timeout_ms=200, **options)
        assert isinstance(fetched, Fetched)
        assert isinstance(fetched.batch, MessageBatch | None)  # no quiet way back to kafka-python
        found += [] if fetched.batch is None else fetched.batch.offsets()
        offset = fetched.next_offset
    return found[:count]


@pytest.mark.rule("R1", "R8")
def test_nothing_that_was_fetched_ahead_comes_after_a_move(broker, log):
    """Thousands of records are on their way when the position is moved, back and forward: none of them is given."""
    dice = random.Random(5)
    for _ in range(100):
        start = dice.randrange(RECORDS - 600)
        count, epoch = dice.choice([1, 600]), dice.choice([None, 0])
        assert offsets_from(log, broker.tp, start, count, leader_epoch=epoch) == list(range(start, start + count))


@pytest.mark.timeout(60)
@pytest.mark.rule("R8")
def test_a_fetch_waits_for_the_first_record_alone(broker, log):
    """Not for as many as it may take: `consume` would wait out its whole timeout at the end of a partition."""
    near_end = RECORDS - 10
    for _ in range(100):
        fetched = log.fetch(broker.tp, near_end, max_records=1_000, timeout_ms=600_000)  # the test's is shorter
        if fetched.batch is not None:
            break
    assert fetched.batch.offsets()[0] == near_end


@pytest.mark.rule("R8")
def test_nothing_is_left_behind_when_it_is_closed(broker):
    """No thread of librdkafka's, whatever it was doing; and a closed connection says that it is."""
    before = threads()
    log = broker.kafka().connect()
    assert offsets_from(log, broker.tp, 0, 5) == [0, 1, 2, 3, 4]
    assert len(threads()) > len(before)
    log.close()
    log.close()
    check_left(before)
    with pytest.raises(KafkaUnavailableError, match="was closed"):
        log.fetch(broker.tp, 5, max_records=1, timeout_ms=10)


@pytest.mark.rule("R8", "B2")
def test_settings_that_librdkafka_finds_wrong_leave_nothing_behind(broker):
    """Found out after kafka-python has connected: that connection is closed, too."""
    before = threads()
    with pytest.raises(ConfigError, match=r"librdkafka cannot be set up for .*fetch\.max\.bytes"):
        broker.kafka(fetch_max_bytes=100).connect()
    check_left(before)


@pytest.mark.rule("R8")
def test_a_forked_child_does_not_wait_for_threads_that_it_has_not(broker, log):
    """It is told to connect anew, closing does not hang, and the parent reads on."""
    assert offsets_from(log, broker.tp, 0, 1) == [0]
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        try:
            log.fetch(broker.tp, 1, max_records=1, timeout_ms=10)
        except KafkaUnavailableError as error:
            os._exit(0 if "forked" in str(error) else 3)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert offsets_from(log, broker.tp, 1, 700) == list(range(1, 701))


@pytest.fixture
def locked_out(monkeypatch):
    """For librdkafka alone: it is given SASL, which this listener does not speak."""

    def settings(config, servers):
        user = {"sasl.mechanism": "PLAIN", "sasl.username": "user", "sasl.password": SECRET}
        return {**translated(config, servers), "security.protocol": "SASL_PLAINTEXT", **user}

    monkeypatch.setattr(librdkafka, "translated", settings)


class Provider:
    """Of a token, with SASL extensions."""

    def __init__(self, **extensions):
        self.extensions = lambda: extensions

    def token(self):
        return "opaque"


@pytest.mark.rule("B2")
@pytest.mark.parametrize(("name", "takes"), [("logicalCluster", True), ("auth", False)])
def test_librdkafka_is_given_sasl_extensions(broker, monkeypatch, name, takes):
    """KIP-342. It refuses "auth", which the protocol keeps for the token, and that is a ConfigError."""
    oauth = {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": Provider(**{name: "x"})}
    security = Security.of({"security_protocol": "SASL_PLAINTEXT", **oauth})
    monkeypatch.setattr(librdkafka, "translated", lambda *given: {**translated(*given), **security.librdkafka()})
    if takes:
        broker.kafka().connect().close()
        return
    with pytest.raises(ConfigError, match=r"librdkafka cannot be set up for .*: OAuth token not set"):
        broker.kafka().connect()


@pytest.mark.timeout(60)
@pytest.mark.rule("B2", "B4", "T2")
def test_a_reader_that_librdkafka_leaves_without_records_fails(broker, locked_out, caplog):
    """Not at once, for brokers may be slow; with the refusal, if it was one, and the next step; not by stalling for ever."""
    clock = ManualClock()
    with contextlib.closing(ConnectedConfluent(broker.kafka(), clock)) as log:
        for _ in range(5):
            fetched = log.fetch(broker.tp, 7, max_records=10, timeout_ms=100)
            assert isinstance(fetched, Fetched)
            assert (fetched.batch, fetched.next_offset, fetched.at_end) == (None, 7, False)
            clock.advance(5_000)
        clock.advance(30_000)
        reason = r"offset 7: kafka-python gets .*_AUTHENTICATION.*client="
        with pytest.raises(KafkaSecurityError, match=reason) as caught:
            offsets_from(log, broker.tp, 7, 1)
    assert SECRET not in str(caught.value) + caplog.text


@pytest.mark.rule("T2")
def test_a_reader_at_the_end_waits_for_ever(broker):
    """However long nothing comes there; and the first record after it is given out."""
    clock, topic = ManualClock(), TopicPartition("quiet", 0)
    broker.produce(topic, b"0")
    with contextlib.closing(ConnectedConfluent(broker.kafka(), clock)) as log:
        assert offsets_from(log, topic, 0, 1) == [0]
        for _ in range(5):
            fetched = log.fetch(topic, 1, max_records=10, timeout_ms=100)
            assert isinstance(fetched, Fetched)
            assert fetched.batch is None
            clock.advance(600_000)
        broker.produce(topic, b"1")
        assert offsets_from(log, topic, 1, 1) == [1]


@pytest.mark.rule("B4")
def test_no_secret_in_the_log_of_librdkafka(broker, caplog):
    """At its most talkative."""
    with caplog.at_level(logging.DEBUG):
        log = broker.kafka(ssl_password=SECRET).connect()
        offsets_from(log, broker.tp, 0, 1)
        log.close()
    assert SECRET not in caplog.text
