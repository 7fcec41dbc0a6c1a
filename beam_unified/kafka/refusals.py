"""Why brokers and we do not come together, and what to do about it. No client is imported: each knows its own errors."""

import ssl
from collections.abc import Iterator
from enum import Enum

from beam_unified.kafka.security import BY_PASSWORD, Security, named
from beam_unified.secrets import Secret

_OTHER_NAME = {62, 64}  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH
_NOT_TLS = {"WRONG_VERSION_NUMBER", "UNSUPPORTED_PROTOCOL", "NO_PROTOCOLS_AVAILABLE", "HTTP_REQUEST"}


class Refusal(Enum):
    """What was refused. Waiting mends none of it."""

    CREDENTIALS = "they refuse the credentials"
    MECHANISM = "the listener does not offer this mechanism"
    AUTHORITY = "their certificate is not signed by an authority that is trusted here"
    HOST_NAME = "their certificate is for another host name"
    CLIENT_CERTIFICATE = "they refuse our certificate, or that there is none"
    NOT_TLS = "no TLS connection comes about"
    PERMISSION = "these credentials lack a permission"


def of_tls(error: BaseException) -> Refusal | None:
    """What a TLS error says, wherever it is in a chain of errors; None where there is none."""
    for found in _chain(error):
        match found:
            case ssl.SSLCertVerificationError():
                return Refusal.HOST_NAME if found.verify_code in _OTHER_NAME else Refusal.AUTHORITY
            case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
                return None  # hung up, which a broker that stops does, too
            case ssl.SSLError() if "ALERT" in str(found.reason) and "VERSION" not in str(found.reason):
                return Refusal.CLIENT_CERTIFICATE  # what a broker has to say of a client's TLS is about its certificate
            case ssl.SSLError():
                return Refusal.NOT_TLS
    return None


def advice(refusal: Refusal, security: Security) -> str:
    """What was refused, and the next step. For errors: holds no value of a secret."""
    return f"{refusal.value}: {_next_step(refusal, security)}"


def _next_step(refusal: Refusal, security: Security) -> str:
    match refusal:
        case Refusal.CREDENTIALS if security.mechanism in BY_PASSWORD:
            return (
                f"check sasl_plain_username{_where(security.username)} and sasl_plain_password{_where(security.password)}, and "
                f"that the user has credentials for {security.mechanism}."
            )
        case Refusal.CREDENTIALS:
            return (
                f"check what sasl_oauth_token_provider{_where(security.token)} gives: issuer, audience, scope and expiry; the "
                "brokers' log says which."
            )
        case Refusal.MECHANISM:
            return (
                "check sasl_mechanism and security_protocol, and that the port is of a listener that has it in "
                "sasl.enabled.mechanisms."
            )
        case Refusal.AUTHORITY:
            trusted = "the system's" if security.authority is None else named(security.authority)
            return f"give the authority's certificate as ssl_cafile (now: {trusted})."
        case Refusal.HOST_NAME:
            return "use its name in bootstrap_servers and the brokers' advertised.listeners, or have one issued for this name."
        case Refusal.CLIENT_CERTIFICATE:
            ours = "none is given" if security.certificate is None else f"ours: {named(security.certificate)}"
            return f"give ssl_certfile and ssl_keyfile, signed by an authority in the brokers' truststore ({ours})."
        case Refusal.NOT_TLS:
            return f"check that the port is of a listener with {security.protocol}, and the TLS versions of both."
        case Refusal.PERMISSION:
            return (
                "grant Read and Describe to readers, Write and Describe to writers (IdempotentWrite before Kafka 2.8), and Create "
                "where a topic is to be made."
            )


def _where(value: object) -> str:
    return f" ({value.where})" if isinstance(value, Secret) else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was made of, and what it was raised from."""
    seen: set[int] = set()
    left: list[object] = [error]
    while left:
        found = left.pop()
        if isinstance(found, BaseException) and id(found) not in seen:
            seen.add(id(found))
            yield found
            left += [found.__context__, found.__cause__, *found.args]
