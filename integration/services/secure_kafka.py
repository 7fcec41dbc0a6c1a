"""A broker with a listener for each kind of security, beside the plain one: certificates, users and permissions of its own.

Called by the tests of security alone; others use the plain broker of `kafka.py`.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import trustme
from cryptography.hazmat.primitives import serialization
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourceType,
    UserScramCredentialUpsertion,
)

from integration.services.kafka import KafkaBroker
from integration.services.process import Run, free_port

USER = "alice"
"""Whom PLAIN and SCRAM-SHA-512 know."""

_HOST = "127.0.0.1"
_LISTENERS = {
    "PLAINTEXT": "PLAINTEXT",
    "TLS": "SSL",
    "MTLS": "SSL",
    "ELSEWHERE": "SSL",  # with a certificate for localhost, but advertised as 127.0.0.1
    "PLAIN": "SASL_SSL",
    "SCRAM": "SASL_SSL",
    "OAUTH": "SASL_SSL",
}
_LOGIN = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureKafka(KafkaBroker):
    """A running broker.

    Args:
        run: Where it lives.
        bootstrap_servers: Of the plain listener, whose clients may do everything.
        listeners: "host:port" of the others: TLS, MTLS, ELSEWHERE, PLAIN, SCRAM, OAUTH. All but ELSEWHERE are certified for
            their address.
        plain_password: Of the user, for PLAIN. Random, so that it can be searched for, as are the others.
        scram_password: Of the user, for SCRAM-SHA-512.
        key_password: Of the encrypted form of the client's key.

    Topics are open to everyone until `restrict` says who may what.
    """

    name: ClassVar[str] = "secure-kafka"

    listeners: Mapping[str, str]
    plain_password: str
    scram_password: str
    key_password: str

    @classmethod
    def start(cls, run: Run) -> Self:
        """Make certificates, format a log that knows the user, start the broker."""
        plain_password, scram_password, key_password = (secrets.token_hex(12) for _ in range(3))
        _make_certificates(run.path(cls.name, "certificates"), key_password)
        ports = {name: free_port() for name in _LISTENERS}
        settings = _settings(run.path(cls.name, "certificates"), plain_password)
        cls._format(run, ports, settings, "--add-scram", f"SCRAM-SHA-512=[name={USER},password={scram_password}]")
        addresses = {name: f"{_HOST}:{port}" for name, port in ports.items()}
        plain = addresses.pop("PLAINTEXT")
        broker = cls(
            run=run,
            bootstrap_servers=plain,
            listeners=addresses,
            plain_password=plain_password,
            scram_password=scram_password,
            key_password=key_password,
        )
        broker.start_again()
        return broker

    def pem(self, name: str) -> Path:
        """A file.

        "authority", "client" (key and certificate), "client-certificate", "client-key", "client-key-encrypted", or the same
        with "stranger", which another authority has signed: "other-authority".
        """
        return self.run.path(self.name, "certificates") / f"{name}.pem"

    def restrict(self, topic: str, principal: str, *operations: ACLOperation) -> None:
        """From now on only this principal may use the topic, and only so."""
        resource = ResourcePattern(ResourceType.TOPIC, topic)
        with self.admin() as admin:
            admin.create_acls([
                ACL(principal, "*", operation, ACLPermissionType.ALLOW, resource) for operation in operations
            ])  # fmt: skip

    def change_password(self, password: str) -> None:
        """Give the user another password for SCRAM-SHA-512."""
        with self.admin() as admin:
            admin.alter_user_scram_credentials([UserScramCredentialUpsertion(USER, "SCRAM-SHA-512", password)])


def _settings(certificates: Path, password: str) -> dict[str, str]:
    def of_listener(name: str, settings: Mapping[str, str]) -> dict[str, str]:
        return {f"listener.name.{name.lower()}.{key}": value for key, value in settings.items()}

    def sasl(name: str, mechanism: str, login: str) -> dict[str, str]:
        prefix = f"{mechanism.lower()}.sasl.jaas.config"
        return of_listener(name, {"sasl.enabled.mechanisms": mechanism, prefix: f"{_LOGIN}.{login};"})

    tls: dict[str, str] = {}
    for name, protocol in _LISTENERS.items():
        if protocol != "PLAINTEXT":
            broker = "elsewhere" if name == "ELSEWHERE" else "broker"
            tls |= of_listener(name, {
                "ssl.keystore.type": "PEM", "ssl.keystore.location": str(certificates / f"{broker}.pem"),
                "ssl.truststore.type": "PEM", "ssl.truststore.location": str(certificates / "authority.pem"),
                "ssl.client.auth": "required" if name == "MTLS" else "none",
            })  # fmt: skip
    protocols = {**_LISTENERS, "CONTROLLER": "PLAINTEXT"}
    return {
        "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
        "inter.broker.listener.name": "PLAINTEXT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "true",
        **tls,
        **sasl("PLAIN", "PLAIN", f'plain.PlainLoginModule required user_{USER}="{password}"'),
        **sasl("SCRAM", "SCRAM-SHA-512", "scram.ScramLoginModule required"),
        # Takes any token that is unsecured (alg none) and has not ended: Kafka's own, for tests.
        **sasl(
            "OAUTH", "OAUTHBEARER", 'oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker"'
        ),
    }


def _make_certificates(folder: Path, key_password: str) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    stranger.cert_pem.write_to_path(folder / "other-authority.pem")
    hosts = {"broker": _HOST, "elsewhere": "localhost", "client": "client.example", "stranger": "client.example"}
    for name, host in hosts.items():
        certificate = (stranger if name == "stranger" else authority).issue_cert(host, common_name=name)
        chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
        key: Any = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
        plain = _pkcs8(key, serialization.NoEncryption())  # the one form that Kafka reads
        (folder / f"{name}.pem").write_bytes(plain + chain)
        (folder / f"{name}-certificate.pem").write_bytes(chain)
        (folder / f"{name}-key.pem").write_bytes(plain)
        encryption = serialization.BestAvailableEncryption(key_password.encode())
        (folder / f"{name}-key-encrypted.pem").write_bytes(_pkcs8(key, encryption))


def _pkcs8(key: Any, encryption: serialization.KeySerializationEncryption) -> bytes:
    made: bytes = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    return made
