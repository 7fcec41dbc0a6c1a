"""Which client fetches: `Kafka(client=...)`, said when the pipeline is built and decided where a connection is made.

`"auto"` may differ from worker to worker, by what is installed there. Nothing else does: both clients obey one contract suite, and
what they leave behind (next offset, leader epoch, topic id) is Kafka's own, so that one may go on where the other stopped.
"""

import functools
import importlib
import logging
from collections.abc import Mapping
from types import ModuleType
from typing import Literal, get_args

from beam_unified.errors import ConfigError
from beam_unified.kafka.librdkafka_settings import refusal, untranslatable

_LOGGER = logging.getLogger(__name__)

Client = Literal["auto", "confluent", "kafka-python"]
"""Who fetches: kafka-python, pure Python; confluent, the compiled librdkafka; auto, that one where it is installed and can."""


def check(client: object, config: Mapping[str, object]) -> None:
    """Raises ConfigError where the name is none, or the settings are not for that client."""
    if client not in get_args(Client):
        raise ConfigError(f"Kafka client must be one of {', '.join(map(repr, get_args(Client)))}, got {client!r}.")
    if client == "confluent" and (name := untranslatable(config)) is not None:
        raise ConfigError(refusal(name))


def compiled(client: Client, config: Mapping[str, object]) -> ModuleType | None:
    """The module that connects with librdkafka; None for kafka-python. Says once a process what "auto" came to.

    Raises:
        ConfigError: "confluent", which is not installed here.
    """
    if client == "kafka-python":
        return None
    if client == "auto" and (name := untranslatable(config)) is not None:
        _say(f"kafka-python fetches, as librdkafka has nothing for {name!r}")
        return None
    try:
        found = importlib.import_module("beam_unified.kafka.librdkafka")  # needs an extra, and imports who asks here
    except ImportError as error:
        if client == "confluent":
            raise ConfigError(
                f"Kafka(client='confluent') needs confluent-kafka on every worker: pip install 'beam-unified[confluent]' ({error})."
            ) from error
        _say(f"kafka-python fetches: {error}")
        return None
    if client == "auto":
        _say("librdkafka fetches")
    return found


@functools.cache
def _say(what: str) -> None:
    _LOGGER.info("Kafka(client='auto'): %s.", what)
