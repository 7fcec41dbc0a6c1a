"""A producer of one topic that says when a message is there for good. For messages that are few and must not be lost."""

import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer
from kafka import errors as client_errors
from kafka.admin import ConfigResource, ConfigResourceType

from beam_unified.errors import ConfigError, KafkaSecurityError, KafkaUnavailableError, UnknownTopicError
from beam_unified.kafka.client import Kafka
from beam_unified.kafka.connecting import RefusalNotingClient, connected, refused
from beam_unified.kafka.producers import client_settings, close_producer

_LOGGER = logging.getLogger(__name__)

_ANSWER_S = 20.0
_RETENTION = ("retention.ms", "retention.bytes")

_PRODUCER: Mapping[str, object] = {
    "acks": "all",
    "request_timeout_ms": 5_000,
    "delivery_timeout_ms": 15_000,
    "max_block_ms": 10_000,
    "metrics_enabled": False,
}


class TopicWriter:
    """Writes to one topic. Not thread safe."""

    def __init__(self, kafka: Kafka, topic: str, *, config: Mapping[str, str], replication_factor: int | None) -> None:
        """Connects, and creates the topic where it does not exist, with one partition and these settings.

        Raises:
            ConfigError: a topic that exists and forgets, see `check_keeps`.
            KafkaUnavailableError: no answer.
            KafkaSecurityError: they refuse us, or these credentials may not create it.
        """
        self._topic, self._kafka = topic, kafka
        if not check_keeps(kafka, topic):
            self._create(config, replication_factor)
        self._producer: Any = None
        self._client: RefusalNotingClient | None = None

    def write(self, key: bytes, value: bytes) -> None:
        """Returns when the brokers have it. Raises KafkaUnavailableError; it may be there nevertheless."""
        try:
            if self._producer is None:
                settings = client_settings(self._kafka, KafkaProducer.DEFAULT_CONFIG, _PRODUCER)
                self._producer, self._client = connected(KafkaProducer, settings)
            self._producer.send(self._topic, key=key, value=value).get(timeout=_ANSWER_S)
        except client_errors.KafkaError as error:
            noted = None if self._client is None else self._client.refusal
            self.close()  # after a batch that timed out the client may never send again: the next one makes a new one
            what, servers = f"write to topic {self._topic!r}", self._kafka.bootstrap_servers
            if (refusal := refused(error, what, servers, self._kafka.security, noted)) is not None:
                raise refusal from error
            raise KafkaUnavailableError(
                f"could not {what} on {servers} ({type(error).__name__}). Check that "
                "the topic's leader is there, and the Write permission."
            ) from error

    def close(self) -> None:
        """Disconnects. Idempotent."""
        producer, self._producer = self._producer, None
        if producer is not None:
            close_producer(producer)

    def _create(self, config: Mapping[str, str], replication_factor: int | None) -> None:
        replicas = -1 if replication_factor is None else replication_factor
        new = {self._topic: {"num_partitions": 1, "replication_factor": replicas, "configs": dict(config)}}
        try:
            _with_admin(self._kafka, lambda admin: admin.create_topics(new, wait_for_metadata=True))
        except client_errors.TopicAlreadyExistsError:
            pass  # another one was first
        except client_errors.KafkaError as error:
            refused_here = isinstance(error, client_errors.AuthorizationError)
            kind = KafkaSecurityError if refused_here else KafkaUnavailableError
            raise kind(
                f"could not create topic {self._topic!r} ({type(error).__name__}): create it with "
                "cleanup.policy=compact, or grant Create."
            ) from error


def check_keeps(kafka: Kafka, topic: str) -> bool:
    """Refuses a topic that would forget what is written to it; whether it exists. One that may not be looked at is logged.

    Raises:
        ConfigError: it exists, is not compacted, and has a retention.
        KafkaUnavailableError: no answer.
        KafkaSecurityError: they refuse us.
    """
    with contextlib.closing(kafka.connect()) as log:
        try:
            log.partitions(topic)
        except UnknownTopicError:
            return False
    asked = ConfigResource(ConfigResourceType.TOPIC, topic, ["cleanup.policy", *_RETENTION])
    try:
        found = _with_admin(kafka, lambda admin: admin.describe_configs([asked], config_filter="all"))["topic"][topic]
    except client_errors.KafkaError as error:
        what = f"look at the settings of topic {topic!r}"
        raise KafkaUnavailableError(
            f"could not {what} on {kafka.bootstrap_servers} ({type(error).__name__})."
        ) from error
    settings = {name: str(one["value"]) for name, one in found.items()}
    if "cleanup.policy" not in settings:
        _LOGGER.warning(
            "topic %r: its settings are not told (permission DescribeConfigs). See to it that cleanup.policy is compact: "
            "what a retention deletes is missing for whoever reads it.", topic,
        )  # fmt: skip
    elif forgetting := forgets(settings):
        raise ConfigError(
            f"topic {topic!r} on {kafka.bootstrap_servers} has {forgetting}: what is deleted is missing for whoever reads it, and "
            "nobody would notice. Set its cleanup.policy to compact, or name a topic that does not exist, which is created so."
        )
    return True


def forgets(settings: Mapping[str, str]) -> str:
    """Those of a topic's settings by which the last message of a key is deleted some day; empty where it is kept for ever."""
    policy = settings["cleanup.policy"]
    limits = [f"{name}={settings[name]}" for name in _RETENTION if settings.get(name, "-1") != "-1"]
    return ", ".join([f"cleanup.policy={policy}", *limits]) if "delete" in policy and limits else ""


def _with_admin(kafka: Kafka, ask: Callable[[Any], Any]) -> Any:
    admin, _ = connected(KafkaAdminClient, client_settings(kafka, KafkaAdminClient.DEFAULT_CONFIG, {}))
    try:
        return ask(admin)
    finally:
        admin.close()
