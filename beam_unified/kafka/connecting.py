"""How kafka-python connects: its settings with secrets looked up, and what a refused connection is for its callers.

Why not kafka-python alone (3.0.12): a client whose credentials or certificates are refused does not hear the broker's reason, tries
again until its time is over and then says "timeout"; and at level DEBUG its log holds every byte that is sent and the settings of
admin clients, passwords included.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from kafka import errors as client_errors
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.sasl.oauth import AbstractTokenProvider
from kafka.net.selector import NetworkSelector
from kafka.protocol.sasl import SaslAuthenticateRequest, SaslBytesRequest

from beam_unified.errors import ConfigError, KafkaSecurityError
from beam_unified.kafka import refusals
from beam_unified.kafka.refusals import Refusal
from beam_unified.kafka.security import NAMES, Security
from beam_unified.secrets import resolved

_T = TypeVar("_T")
_E = TypeVar("_E")


def client_config(config: Mapping[str, object]) -> dict[str, Any]:
    """Settings for a constructor of kafka-python. Looks secrets up: never to be kept or shown.

    Raises:
        ConfigError: a secret, or a file, that is not there.
    """
    security = Security.of(config)
    settings = resolved({name: value for name, value in config.items() if name not in NAMES})
    settings |= {"security_protocol": security.protocol, "sasl_mechanism": security.mechanism}
    names = ("sasl_plain_username", "sasl_plain_password")
    settings |= resolved({name: config[name] for name in names if config.get(name) is not None})
    if security.mechanism == "OAUTHBEARER":
        settings["sasl_oauth_token_provider"] = _Tokens(security)
    if security.uses_tls:
        settings["ssl_context"] = security.ssl_context()
    return settings


def refusal_of(error: BaseException) -> Refusal | None:
    """What brokers, or we, refused; None for an error of another kind, which may pass."""
    match error:
        case client_errors.SaslAuthenticationFailedError():
            return Refusal.CREDENTIALS
        case client_errors.UnsupportedSaslMechanismError() | client_errors.IllegalSaslStateError():
            return Refusal.MECHANISM
        case client_errors.AuthorizationError():
            return Refusal.PERMISSION
        case _:
            return refusals.of_tls(error)


def refused(
    error: BaseException, what: str, servers: object, security: Security, noted: BaseException | None = None
) -> KafkaSecurityError | ConfigError | None:
    """An error of the client as ours, if it is a refusal.

    Args:
        error: What the client raised.
        what: What could not be done, after "could not".
        servers: Where.
        security: What was tried.
        noted: What its `RefusalNotingClient` has noted: of a refusal in the background the client says "timeout".
    """
    for found in (error, noted):
        if isinstance(found, ConfigError):
            return found  # a secret that is not there
        refusal = None if found is None else refusal_of(found)
        if refusal is not None:
            return KafkaSecurityError(
                f"could not {what}: {servers} over {security}: {refusals.advice(refusal, security)} [{type(found).__name__}]"
            )
    return None


def connected(constructor: Callable[..., _T], settings: Mapping[str, object]) -> tuple[_T, "RefusalNotingClient"]:
    """A consumer, producer or admin client, and its network half.

    One whose constructor fails leaves thread and sockets; here they are closed. A runner tries a bundle again for as long as the
    brokers are down, and each try makes a client.
    """
    made: list[RefusalNotingClient] = []

    def remembered(**client_settings: object) -> RefusalNotingClient:
        made.append(RefusalNotingClient(**client_settings))
        return made[-1]

    try:
        return constructor(**{**settings, "kafka_client": remembered}), made[0]
    except BaseException:
        for client in made:
            client.close()
        raise


class RefusalNotingClient(KafkaNetClient):
    """The client's network half, which notes a refusal, and does not try for longer before there is a first connection."""

    def __init__(self, **configs: Any) -> None:
        net = NetworkSelector(**configs)
        super().__init__(net=net, manager=_Manager(net, **configs))

    @property
    def refusal(self) -> BaseException | None:
        """The client's error of a connection that was refused, while no other has been made since."""
        found: BaseException | None = self._manager.refusal
        return found


class _Manager(KafkaConnectionManager):
    """Until it has connected, refusals go where the client looks before it tries again (3.0.12 itself forgets to put them there).

    Later it goes on trying, as the producer's thread would spin over an error.
    """

    refusal: BaseException | None = None

    async def _build_transport(self, *args: Any, **kwargs: Any) -> Any:
        transport = await super()._build_transport(*args, **kwargs)
        transport._sock_recv = _data_first(transport._sock_recv)  # noqa: SLF001
        return transport

    async def _connect(self, node: Any, conn: Any, *args: Any, **kwargs: Any) -> None:
        await super()._connect(node, conn, *args, **kwargs)
        error = conn.init_future.exception if conn.init_future.failed() else None
        final = error is not None and (isinstance(error, ConfigError) or refusal_of(error) is not None)
        self.refusal = error if final else None
        if final and not self.bootstrapped:
            self._auth_failures[node.node_id] = error


def _data_first(receive: Callable[[], tuple[bytes, _E]]) -> Callable[[], tuple[bytes, _E | None]]:
    """What was received, and at the next call why nothing more comes.

    Brokers send a refusal and hang up in the same moment, and 3.0.12 forgets what it received together with the end.
    """
    end: list[_E] = []

    def received() -> tuple[bytes, _E | None]:
        if end:
            return b"", end.pop()
        data, error = receive()
        if data and error:
            end.append(error)
            return data, None
        return data, error

    return received


class _Tokens(AbstractTokenProvider):
    """A new token for each connection, and before a session of one ends (KIP-368)."""

    def __init__(self, security: Security) -> None:
        super().__init__()
        self._security = security

    def token(self) -> str:
        return self._security.new_token()

    def extensions(self) -> dict[str, str]:
        """SASL extensions (KIP-342), where the user's provider has some."""
        return self._security.extensions()


class _Unsaid(logging.Filter):
    """Keeps credentials out of the client's log: bytes of all requests, requests that hold a password or a token, settings."""

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args if isinstance(record.args, tuple) else (record.args,)  # a mapping alone is not in a tuple
        return not any(
            isinstance(arg, bytes | bytearray | memoryview | SaslAuthenticateRequest | SaslBytesRequest)
            or (isinstance(arg, Mapping) and not NAMES.isdisjoint(arg))
            for arg in args
        )


for _name in ("kafka.net.connection", "kafka.protocol.parser", "kafka.admin.client"):
    logging.getLogger(_name).addFilter(_Unsaid())
