"""Who we are to the brokers and how we know them: the TLS and SASL settings as one value, and what each client makes of it.

One set of names whichever client connects: kafka-python's. A text in `ssl_cafile`, `ssl_certfile` and `ssl_keyfile` is the path of
a PEM file on the worker, a `Secret` is where the PEM text itself is. Nothing is looked up before a client is made. No client is
imported.
"""

import base64
import binascii
import contextlib
import json
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.errors import ConfigError
from beam_unified.secrets import Secret

_PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
BY_PASSWORD = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_MECHANISMS = (*BY_PASSWORD, "OAUTHBEARER", "AWS_MSK_IAM", "GSSAPI")
_OPAQUE_TOKEN_S = 300.0  # how long a token that does not say so is taken to hold; its provider is asked before that
_PEM = "-----BEGIN "

# What people bring from Java and librdkafka, and its name here.
ELSEWHERE: Mapping[str, str] = {
    "sasl_jaas_config": "sasl_plain_username and sasl_plain_password",
    "sasl_mechanisms": "sasl_mechanism",
    "sasl_username": "sasl_plain_username",
    "sasl_password": "sasl_plain_password",
    "sasl_login_callback_handler_class": "sasl_oauth_token_provider",
    "sasl_oauthbearer_config": "sasl_oauth_token_provider",
    "ssl_truststore_location": "ssl_cafile, in PEM",
    "ssl_truststore_certificates": "ssl_cafile=Secret...",
    "ssl_keystore_location": "ssl_certfile and ssl_keyfile, in PEM",
    "ssl_keystore_certificate_chain": "ssl_certfile=Secret...",
    "ssl_keystore_key": "ssl_keyfile=Secret...",
    "ssl_ca_location": "ssl_cafile",
    "ssl_ca_pem": "ssl_cafile=Secret...",
    "ssl_certificate_location": "ssl_certfile",
    "ssl_certificate_pem": "ssl_certfile=Secret...",
    "ssl_key_location": "ssl_keyfile",
    "ssl_key_pem": "ssl_keyfile=Secret...",
    "ssl_key_password": "ssl_password",
    "ssl_endpoint_identification_algorithm": "ssl_check_hostname",
}

Pem: TypeAlias = str | Secret | None
"""The path of a file on the worker, or where the text is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """The settings, checked against each other. Frozen, picklable if `token` is; made by `Security.of`.

    Attributes:
        protocol: `security_protocol`.
        mechanism: `sasl_mechanism`.
        username: `sasl_plain_username`.
        password: `sasl_plain_password`.
        token: `sasl_oauth_token_provider`: a Secret, a function or an object with `token()`, which gives a token.
        authority: `ssl_cafile`; None is the worker's own authorities.
        certificate: `ssl_certfile`, with what is between it and its authority.
        key: `ssl_keyfile`; None where the certificate's PEM has it, too.
        key_password: `ssl_password`.
        revoked: `ssl_crlfile`, a path.
        ciphers: `ssl_ciphers`.
        check_hostname: `ssl_check_hostname`.
    """

    protocol: str = "PLAINTEXT"
    mechanism: str | None = None
    username: str | Secret | None = field(default=None, repr=False)
    password: str | Secret | None = field(default=None, repr=False)
    token: Any = field(default=None, repr=False)
    authority: Pem = None
    certificate: Pem = None
    key: Pem = None
    key_password: str | Secret | None = field(default=None, repr=False)
    revoked: str | None = None
    ciphers: str | None = None
    check_hostname: bool = True

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Security":
        """Of settings by their names, with underscores; others are ignored.

        Raises:
            ConfigError: a setting that cannot work, or that another one leaves without effect.
        """
        given = {ours: config[name] for name, ours in _FIELDS.items() if config.get(name) is not None}
        if config.get("ssl_context") is not None:
            raise ConfigError("Kafka config 'ssl_context' cannot travel to a worker: give ssl_cafile and the others.")
        for name in ("security_protocol", "sasl_mechanism", "ssl_crlfile", "ssl_ciphers"):
            if not isinstance(config.get(name, ""), str | None):
                raise ConfigError(f"Kafka config {name!r} is a text, got {type(config[name]).__name__}.")
        security = cls(**given)
        security._check_sasl()
        security._check_tls()
        return security

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def uses_sasl(self) -> bool:
        """Whether the connection begins with credentials."""
        return self.protocol in {"SASL_PLAINTEXT", "SASL_SSL"}

    def __str__(self) -> str:
        return f"{self.protocol} with {self.mechanism}" if self.uses_sasl else self.protocol

    def ssl_context(self) -> ssl.SSLContext:
        """For clients that take one. Looks secrets up; texts of keys are on disk, unreadable to others, while this call lasts.

        Raises:
            ConfigError: a file that is not there, or is not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_hostname
        if self.ciphers is not None:
            with _explained("ssl_ciphers", self.ciphers):
                context.set_ciphers(self.ciphers)
        if self.authority is None:
            context.load_default_certs()
        else:
            with _explained("ssl_cafile", self.authority):
                text = _text(self.authority, "ssl_cafile")
                context.load_verify_locations(str(self.authority) if text is None else None, cadata=text)
        if self.revoked is not None:
            with _explained("ssl_crlfile", self.revoked):
                context.load_verify_locations(self.revoked)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        if self.certificate is not None:
            password = _looked_up(self.key_password) or ""  # not None: OpenSSL would ask for it at the terminal
            with tempfile.TemporaryDirectory() as folder, _explained("ssl_certfile, ssl_keyfile", self.certificate):
                certificate = _path(self.certificate, "ssl_certfile", folder)
                key = None if self.key is None else _path(self.key, "ssl_keyfile", folder)
                context.load_cert_chain(certificate, key, password)
        return context

    def new_token(self) -> str:
        """A token, asked for now. Raises ConfigError without what the provider said, which may hold a secret."""
        match self.token:
            case Secret():
                return self.token.resolve()
            case provider:
                function = getattr(provider, "token", provider)
                return Secret.call(function).resolve()

    def extensions(self) -> dict[str, str]:
        """SASL extensions (KIP-342), asked for now, where the user's provider has `extensions()`.

        Raises:
            ConfigError: it fails, or gives no texts; without what it said, which may hold a secret.
        """
        function = getattr(self.token, "extensions", None)
        if not callable(function):
            return {}
        try:
            given = dict(function())
        except Exception as error:  # noqa: BLE001 - the user's code
            raise ConfigError(f"extensions() of sasl_oauth_token_provider failed ({type(error).__name__}).") from None
        if not all(isinstance(text, str) for pair in given.items() for text in pair):
            raise ConfigError("extensions() of sasl_oauth_token_provider must give texts by name.")
        return given

    def librdkafka(self) -> dict[str, Any]:
        """For confluent-kafka's constructors. Looks secrets up; they stay in memory.

        Raises:
            ConfigError: a mechanism that this client lacks, or a secret that is not there.
        """
        settings: dict[str, Any] = {"security.protocol": self.protocol}
        if self.uses_sasl:
            if self.mechanism not in {*BY_PASSWORD, "OAUTHBEARER"}:
                raise ConfigError(
                    f"sasl_mechanism {self.mechanism} is not for this client: use msk_iam(region), or kafka-python."
                )
            settings["sasl.mechanism"] = self.mechanism
            if self.mechanism == "OAUTHBEARER":
                settings["oauth_cb"] = lambda _: self._token_of_librdkafka()
            else:
                settings["sasl.username"] = _looked_up(self.username)
                settings["sasl.password"] = _looked_up(self.password)
        if self.uses_tls:
            settings["ssl.endpoint.identification.algorithm"] = "https" if self.check_hostname else "none"
            key = self.key if self.key is not None else self.certificate
            pems = {"ca": self.authority, "certificate": self.certificate, "key": key}
            for name, value in pems.items():
                if value is not None:
                    text = _text(value, f"ssl_{name}")
                    settings[f"ssl.{name}.location" if text is None else f"ssl.{name}.pem"] = text or value
            settings |= {} if self.key_password is None else {"ssl.key.password": _looked_up(self.key_password)}
            settings |= {} if self.revoked is None else {"ssl.crl.location": self.revoked}
            settings |= {} if self.ciphers is None else {"ssl.cipher.suites": self.ciphers}
        return settings

    def _token_of_librdkafka(self) -> tuple[object, ...]:
        """What confluent-kafka's `oauth_cb` gives: token, its end, and, where there are extensions, a principal and those."""
        token = _with_expiry(self.new_token())
        extensions = self.extensions()
        return (*token, "", extensions) if extensions else token

    def _check_sasl(self) -> None:
        if self.protocol not in _PROTOCOLS:
            raise ConfigError(f"security_protocol must be one of {', '.join(_PROTOCOLS)}, got {self.protocol!r}.")
        if self.mechanism is not None and self.mechanism not in _MECHANISMS:
            raise ConfigError(f"sasl_mechanism must be one of {', '.join(_MECHANISMS)}, got {self.mechanism!r}.")
        if self.mechanism is not None and not self.uses_sasl:
            raise ConfigError(
                f"sasl_mechanism is {self.mechanism}, but security_protocol is {self.protocol}, which uses none: "
                "say security_protocol='SASL_SSL'."
            )
        if self.uses_sasl and self.mechanism is None:
            raise ConfigError(f"security_protocol {self.protocol} needs a sasl_mechanism: {', '.join(_MECHANISMS)}.")
        if self.mechanism is None and (self.username or self.password or self.token) is not None:
            raise ConfigError("Kafka config holds credentials, but no sasl_mechanism: without one they are not used.")
        if self.mechanism in BY_PASSWORD and (self.username is None or self.password is None):
            raise ConfigError(f"{self.mechanism} needs sasl_plain_username and sasl_plain_password.")
        if self.mechanism == "OAUTHBEARER" and self.token is None:
            raise ConfigError("OAUTHBEARER needs a sasl_oauth_token_provider, such as Secret.call(fetch_token).")
        if self.token is not None and not isinstance(self.token, Secret) and not callable(self._token_function()):
            raise ConfigError("sasl_oauth_token_provider is a Secret, a function, or an object with a token() method.")

    def _check_tls(self) -> None:
        if self.certificate is not None and not self.uses_tls:
            raise ConfigError(f"ssl_certfile is given, but security_protocol is {self.protocol}, which uses no TLS.")
        if self.key is not None and self.certificate is None:
            raise ConfigError("ssl_keyfile without ssl_certfile: give the certificate, too.")
        for name, value in (
            ("ssl_cafile", self.authority),
            ("ssl_certfile", self.certificate),
            ("ssl_keyfile", self.key),
        ):
            if isinstance(value, str) and value.lstrip().startswith(_PEM):
                raise ConfigError(f"{name} holds PEM text: give the path of a file, or a Secret that says where it is.")

    def _token_function(self) -> object:
        return getattr(self.token, "token", self.token)


_FIELDS: Mapping[str, str] = {
    "security_protocol": "protocol",
    "sasl_mechanism": "mechanism",
    "sasl_plain_username": "username",
    "sasl_plain_password": "password",
    "sasl_oauth_token_provider": "token",
    "ssl_cafile": "authority",
    "ssl_certfile": "certificate",
    "ssl_keyfile": "key",
    "ssl_password": "key_password",
    "ssl_crlfile": "revoked",
    "ssl_ciphers": "ciphers",
    "ssl_check_hostname": "check_hostname",
}

NAMES = frozenset(_FIELDS)
"""The settings that `Security` is made of."""


@contextlib.contextmanager
def _explained(setting: str, value: str | Secret) -> Iterator[None]:
    """Errors of files and OpenSSL as ours, which name the setting and where its value is."""
    try:
        yield
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(
            f"{setting} cannot be used ({named(value)}: {reason}). It must be PEM, be there on every worker, match its key, and "
            "ssl_password be the key's."
        ) from None


def named(value: str | Secret) -> str:
    """A path, or where a secret is."""
    return value.where if isinstance(value, Secret) else value


def _looked_up(value: str | Secret | None) -> str | None:
    return value.resolve() if isinstance(value, Secret) else value


def _text(value: str | Secret, setting: str) -> str | None:
    """PEM text; None for a path."""
    if not isinstance(value, Secret):
        return None
    text = value.resolve()
    if _PEM not in text:
        raise ConfigError(f"{setting}: there is no PEM text in {value.where}. For the path of a file give a str.")
    return text


def _path(value: str | Secret, setting: str, folder: str) -> str:
    """A path; that of a new file in the folder for a text."""
    text = _text(value, setting)
    if text is None:
        return str(value)
    path = Path(folder) / setting
    path.write_text(text, encoding="utf-8")
    return str(path)


def _with_expiry(token: str) -> tuple[str, float]:
    """A token and when it ends, in seconds of the epoch: what a JWT says, or soon."""
    try:
        claims = token.split(".")[1]
        return token, float(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"])
    except (LookupError, ValueError, TypeError, binascii.Error):
        return token, SYSTEM_CLOCK.now_ms() / 1_000 + _OPAQUE_TOKEN_S
