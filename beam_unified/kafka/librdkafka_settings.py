"""kafka-python's settings as librdkafka wants them. Pure: translated once, and what cannot be translated is refused by name.

Both clients of `Kafka` take one set of names, kafka-python's. A setting is translated, or belongs to the questions, which
kafka-python answers whichever client fetches, or is refused; there is no fourth kind, so that none is dropped silently.
"""

from collections.abc import Mapping
from typing import Any

from beam_unified.errors import ConfigError
from beam_unified.kafka.security import BY_PASSWORD, NAMES, Security

_TRANSLATED: Mapping[str, tuple[str, ...]] = {
    "allow_auto_create_topics": ("allow.auto.create.topics",),
    "check_crcs": ("check.crcs",),
    "client_dns_lookup": ("client.dns.lookup",),
    "client_id": ("client.id",),
    "client_rack": ("client.rack",),
    "connections_max_idle_ms": ("connections.max.idle.ms",),
    "fetch_max_bytes": ("fetch.max.bytes",),
    "fetch_max_wait_ms": ("fetch.wait.max.ms",),
    "fetch_min_bytes": ("fetch.min.bytes",),
    "isolation_level": ("isolation.level",),
    "max_partition_fetch_bytes": ("fetch.message.max.bytes",),
    "metadata_max_age_ms": ("metadata.max.age.ms", "topic.metadata.refresh.interval.ms"),
    "receive_buffer_bytes": ("socket.receive.buffer.bytes",),
    "receive_message_max_bytes": ("receive.message.max.bytes",),
    "reconnect_backoff_max_ms": ("reconnect.backoff.max.ms",),
    "reconnect_backoff_ms": ("reconnect.backoff.ms",),
    "request_timeout_ms": ("socket.timeout.ms",),
    "retry_backoff_ms": ("retry.backoff.ms",),
    "send_buffer_bytes": ("socket.send.buffer.bytes",),
}

_OF_THE_QUESTIONS = frozenset({
    "api_version", "bootstrap_timeout_ms", "consumer_timeout_ms", "enable_incremental_fetch_sessions", "exclude_internal_topics",
    "max_in_flight_requests_per_connection", "max_poll_records", "metric_group_prefix", "metric_reporters", "metrics_enabled",
    "metrics_num_samples", "metrics_sample_window_ms", "selector",
    # of consumer groups, which neither client is in
    "auto_commit_interval_ms", "default_offset_commit_callback", "group_instance_id", "heartbeat_interval_ms",
    "max_poll_interval_ms", "partition_assignment_strategy", "session_timeout_ms",
})  # fmt: skip

FETCH_BYTES = 1024 * 1024
"""`max_partition_fetch_bytes` unless given: decompressed at once, where kafka-python goes batch by batch. More is no faster."""

_DEFAULTS: Mapping[str, object] = {
    "fetch.queue.backoff.ms": 10,  # 1 s, librdkafka's, is how long a full queue, once emptied, would wait for more
    # What a reader holds ahead, but for one fetch more; librdkafka's 100,000 records of up to 64 MiB are no faster.
    "queued.min.messages": 10_000,
    "queued.max.messages.kbytes": 8 * 1024,
    "socket.nagle.disable": True,
    "log.connection.close": False,  # brokers close idle connections: no news
}

_OURS: Mapping[str, object] = {
    "auto.offset.reset": "error",  # never a jump
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,  # the one way to learn the position behind markers and aborted records
    "group.id": "beam-unified",  # it makes no consumer without one; nobody joins it, nothing is committed
}

_MECHANISMS = frozenset({*BY_PASSWORD, "OAUTHBEARER"})


def untranslatable(config: Mapping[str, object]) -> str | None:
    """The first setting, by name, that librdkafka has nothing for; None where it can do with all of them.

    Args:
        config: By names with underscores, as `Kafka.config` has them.
    """
    given = {name for name, value in config.items() if value is not None}
    others = given - NAMES - _TRANSLATED.keys() - _OF_THE_QUESTIONS
    security = Security.of(config)
    if security.uses_sasl and security.mechanism not in _MECHANISMS:
        others.add("sasl_mechanism")
    return min(others, default=None)


def translated(config: Mapping[str, Any], servers: str) -> dict[str, Any]:
    """Settings for a consumer of confluent-kafka. Looks secrets up: never to be kept or shown.

    Raises:
        ConfigError: a setting, by name, that librdkafka has nothing for; a secret that is not there.
    """
    refused = untranslatable(config)
    if refused is not None:
        raise ConfigError(refusal(refused))
    settings: dict[str, Any] = dict(_DEFAULTS)
    for name, theirs in _TRANSLATED.items():
        if config.get(name) is not None:
            settings |= dict.fromkeys(theirs, config[name])
    return {**settings, **Security.of(config).librdkafka(), **_OURS, "bootstrap.servers": servers}


def refusal(name: str) -> str:
    """What to say of a setting that cannot be translated."""
    return f"Kafka config {name!r} cannot be had with client='confluent': leave it out, or say client='kafka-python'."
