"""How a user reaches each listener of `services.secure_kafka`, every secret as a `Secret` of an environment variable.

Called by the tests of security.
"""

import base64
import json
import time
import uuid

from kafka import KafkaProducer

from beam_unified import Kafka, Secret, TopicPartition
from beam_unified.stores import Fetched
from integration.services.secure_kafka import USER, SecureKafka

WAYS = ("TLS", "MTLS", "PLAIN", "SCRAM", "OAUTH")


def token(*, seconds: float) -> str:
    """An unsecured one, for so long."""
    claims = {"sub": uuid.uuid4().hex, "iat": time.time() - 7_200, "exp": time.time() + seconds}
    parts = ({"alg": "none"}, claims)
    return ".".join([*(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), ""])


def secrets_of(broker: SecureKafka) -> dict[str, str]:
    """Every secret by the environment variable that is to hold it."""
    return {
        "KEY": broker.pem("client-key-encrypted").read_text(encoding="utf-8"),
        "KEY_PASSWORD": broker.key_password,
        "PLAIN_PASSWORD": broker.plain_password,
        "SCRAM_PASSWORD": broker.scram_password,
        "TOKEN": token(seconds=600),
    }


def settings(broker: SecureKafka, way: str) -> dict[str, object]:
    """As a user would write them, every secret as a `Secret`."""
    sasl = {"security_protocol": "SASL_SSL", "ssl_cafile": str(broker.pem("authority"))}
    user = {**sasl, "sasl_plain_username": USER}
    ways: dict[str, dict[str, object]] = {
        "TLS": {"security_protocol": "SSL", "ssl_cafile": str(broker.pem("authority"))},
        "MTLS": {
            "security_protocol": "SSL",
            "ssl_cafile": Secret.file(str(broker.pem("authority"))),
            "ssl_certfile": Secret.file(str(broker.pem("client-certificate"))),
            "ssl_keyfile": Secret.env("KEY"),
            "ssl_password": Secret.env("KEY_PASSWORD"),
        },
        "PLAIN": {**user, "sasl_mechanism": "PLAIN", "sasl_plain_password": Secret.env("PLAIN_PASSWORD")},
        "SCRAM": {**user, "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_password": Secret.env("SCRAM_PASSWORD")},
        "OAUTH": {**sasl, "sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": Secret.env("TOKEN")},
    }
    return ways[way]


def kafka_by(broker: SecureKafka, way: str, **changes: object) -> Kafka:
    """Through the listener of that name."""
    changed = {**settings(broker, way), **changes}
    return Kafka(broker.listeners[way], {name: value for name, value in changed.items() if value is not None})


def new_topic(broker: SecureKafka, values: tuple[bytes, ...] = ()) -> str:
    """A topic that holds these."""
    topic = broker.create_topic(f"security-{uuid.uuid4().hex[:8]}")
    if values:
        producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        for value in values:
            producer.send(topic, value)
        producer.close()
    return topic


def values_in(broker: SecureKafka, topic: str) -> list[bytes | None]:
    """Of the first partition, through the plain listener."""
    log, tp, values = Kafka(broker.bootstrap_servers).connect(), TopicPartition(topic, 0), list[bytes | None]()
    end, at = log.bounds(tp).stop, 0
    while at < end:
        fetched = log.fetch(tp, at, max_records=100, timeout_ms=2_000)
        assert isinstance(fetched, Fetched)
        values += fetched.batch.values() if fetched.batch else ()
        at = fetched.next_offset
    log.close()
    return values
