"""`Security`: which settings go together, and what each client makes of them."""

import base64
import json
import logging
import pickle
import ssl
import stat
import tempfile
import urllib.parse
from pathlib import Path

import confluent_kafka
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from kafka.protocol.sasl import SaslAuthenticateRequest

from beam_unified import ConfigError, Kafka, Secret, WriteKafka
from beam_unified.kafka.connecting import client_config
from beam_unified.kafka.msk import msk_iam
from beam_unified.kafka.refusals import Refusal, advice
from beam_unified.kafka.security import Security

SECRET = "hunter2-hunter2"
PLAIN = {"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN"}
USER = {"sasl_plain_username": "alice", "sasl_plain_password": SECRET}


@pytest.fixture
def pems(monkeypatch, tmp_path) -> dict[str, Secret]:
    """PEM texts in the environment; the key is encrypted with SECRET."""
    certificate = trustme.CA().issue_cert("client.example")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(SECRET.encode()),
    )
    chain = certificate.cert_chain_pems[0].bytes().decode()
    monkeypatch.setenv("CERTIFICATE", chain)
    monkeypatch.setenv("KEY", encrypted.decode())
    monkeypatch.setenv("KEY_PASSWORD", SECRET)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return {
        "ssl_cafile": Secret.env("CERTIFICATE"),
        "ssl_certfile": Secret.env("CERTIFICATE"),
        "ssl_keyfile": Secret.env("KEY"),
        "ssl_password": Secret.env("KEY_PASSWORD"),
    }


@pytest.mark.rule("B2", "B4")
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"security_protocol": "TLS"}, "security_protocol must be one of PLAINTEXT, SSL, .*got 'TLS'"),
        ({"security_protocol": Secret.env("A")}, "'security_protocol' is a text, got Secret"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM"}, "sasl_mechanism must be one of .*got 'SCRAM'"),
        ({"security_protocol": "SASL_SSL"}, "SASL_SSL needs a sasl_mechanism"),
        ({"sasl_mechanism": "PLAIN", **USER}, "security_protocol is PLAINTEXT, which uses none"),
        (USER, "credentials, but no sasl_mechanism"),
        ({**PLAIN, "sasl_plain_username": "alice"}, "PLAIN needs sasl_plain_username and sasl_plain_password"),
        ({**PLAIN, "sasl_mechanism": "OAUTHBEARER"}, "OAUTHBEARER needs a sasl_oauth_token_provider"),
        (
            {**PLAIN, "sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": SECRET},
            "sasl_oauth_token_provider is a Secret, a function, or an object with a token",
        ),
        ({"ssl_certfile": "client.pem"}, "ssl_certfile is given, but security_protocol is PLAINTEXT"),
        ({"security_protocol": "SSL", "ssl_keyfile": "key.pem"}, "ssl_keyfile without ssl_certfile"),
        ({"security_protocol": "SSL", "ssl_cafile": f"-----BEGIN {SECRET}"}, "ssl_cafile holds PEM text"),
        ({"security_protocol": "SSL", "ssl_context": SECRET}, "'ssl_context' cannot travel"),
        ({"sasl.jaas.config": SECRET}, "'sasl_jaas_config': use sasl_plain_username and sasl_plain_password"),
        ({"ssl.ca.location": SECRET}, "'ssl_ca_location': use ssl_cafile"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_with_the_next_step(config, message):
    """B2, B4: when the pipeline is built, and without the values."""
    with pytest.raises(ConfigError, match=message) as caught:
        Kafka("a:9092", config=config)
    assert SECRET not in str(caught.value)


@pytest.mark.rule("B2")
def test_a_writer_takes_its_security_from_kafka():
    """B2: one place for both directions."""
    with pytest.raises(ConfigError, match=r"'sasl_plain_password': security settings go into Kafka"):
        WriteKafka("pins", Kafka("a:9092"), config={"sasl.plain.password": SECRET})


@pytest.mark.rule("B4")
def test_texts_of_keys_are_on_disk_for_a_moment_and_for_us_alone(pems, monkeypatch, tmp_path):
    """B4: in a folder that no other user can enter, and gone when the context is made, or has failed to be."""
    modes, load = [], ssl.SSLContext.load_cert_chain

    def looking(context, certificate, key, password):
        modes.append(stat.S_IMODE(Path(key).parent.stat().st_mode))
        return load(context, certificate, key, password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", looking)
    Security.of({"security_protocol": "SSL", **pems}).ssl_context()
    assert modes == [0o700]
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("KEY_PASSWORD", "wrong")
    with pytest.raises(ConfigError, match=r"ssl_keyfile cannot be used .*ssl_password be the key's") as caught:
        Security.of({"security_protocol": "SSL", **pems}).ssl_context()
    assert list(tmp_path.iterdir()) == []
    assert caught.value.__suppress_context__


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("ssl_cafile", "/no/such.pem", r"ssl_cafile cannot be used \(/no/such.pem: No such file"),
        ("ssl_cafile", __file__, r"ssl_cafile cannot be used \(.*test_security"),
        (
            "ssl_cafile",
            Secret.env("KEY_PASSWORD"),
            "ssl_cafile: there is no PEM text in environment variable KEY_PASSW",
        ),
        ("ssl_password", None, "ssl_keyfile cannot be used"),
        ("ssl_ciphers", "NONE-OF-THEM", "ssl_ciphers cannot be used"),
    ],
)
def test_a_certificate_that_cannot_be_used_names_its_setting(pems, setting, value, message):
    """B2: with where it was looked for. An encrypted key without a password is an error, not a question at the terminal."""
    with pytest.raises(ConfigError, match=message):
        Security.of({"security_protocol": "SSL", **pems, setting: value}).ssl_context()


def test_the_other_client_takes_the_same_settings(pems):
    """Its names, with texts in place of files; and the client itself accepts them."""
    settings = Security.of({**PLAIN, **USER, **pems}).librdkafka()
    assert settings["sasl.password"] == settings["ssl.key.password"] == SECRET
    assert settings["ssl.ca.pem"].startswith("-----BEGIN CERT")
    confluent_kafka.Producer({**settings, "bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    paths = Security.of(
        {"security_protocol": "SSL", "ssl_cafile": "a", "ssl_certfile": "b", "ssl_check_hostname": False}
    )
    assert paths.librdkafka() == {
        "security.protocol": "SSL",
        "ssl.ca.location": "a",
        "ssl.certificate.location": "b",
        "ssl.key.location": "b",
        "ssl.endpoint.identification.algorithm": "none",
    }


def token_of(claims: dict[str, object]) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}."


@pytest.mark.parametrize("provider", [Secret.env("TOKEN"), lambda: token_of({"exp": 1_900_000_000})])
def test_a_token_is_asked_for_when_it_is_needed(provider, monkeypatch):
    """A Secret, or a function; librdkafka is told when it ends."""
    config = {**PLAIN, "sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": provider}
    settings = Security.of(config).librdkafka()
    monkeypatch.setenv("TOKEN", token_of({"exp": 1_900_000_000}))
    assert settings["oauth_cb"]("") == (token_of({"exp": 1_900_000_000}), 1_900_000_000)


class Extended:
    """A provider with SASL extensions."""

    def __init__(self, extensions):
        self.extensions = lambda: extensions

    def token(self):
        return token_of({"exp": 4_000_000_000})


def oauth(provider):
    return {**PLAIN, "sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": provider}


def test_extensions_reach_both_clients():
    """KIP-342: kafka-python's provider gives them, and confluent-kafka's function, behind a principal."""
    given = {"logicalCluster": "lkc-1", "identityPoolId": "pool-1"}
    assert client_config(oauth(Extended(given)))["sasl_oauth_token_provider"].extensions() == given
    token = Extended(given).token()
    assert Security.of(oauth(Extended(given))).librdkafka()["oauth_cb"]("") == (token, 4_000_000_000, "", given)
    assert Security.of(oauth(Extended({}))).librdkafka()["oauth_cb"]("") == (token, 4_000_000_000)


@pytest.mark.rule("B2", "B4")
@pytest.mark.parametrize("extensions", [{"name": 5}, {5: SECRET}, SECRET, 5])
def test_extensions_that_are_none_say_so(extensions):
    """B4: without what they are."""
    security = Security.of(oauth(Extended(extensions)))
    with pytest.raises(ConfigError, match=r"extensions\(\) of sasl_oauth_token_provider") as caught:
        security.librdkafka()["oauth_cb"]("")
    assert SECRET not in str(caught.value)


@pytest.mark.rule("B4")
def test_what_a_token_provider_says_of_its_failure_is_kept_back():
    """B4: it may hold the secret that it failed with."""

    class Provider:
        def token(self):
            raise RuntimeError(f"{SECRET} is not valid")

    config = {**PLAIN, "sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": Provider()}
    with pytest.raises(ConfigError, match=r"no secret from function .*token \(RuntimeError\)") as caught:
        Security.of(config).new_token()
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.rule("B4")
def test_the_clients_log_holds_no_bytes_of_requests(caplog):
    """B4: kafka-python logs at DEBUG what it sends, and requests with passwords; its other messages are kept."""
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("kafka.protocol.parser").debug("%s Send: %r", "node", SECRET.encode())
        logging.getLogger("kafka.net.connection").debug("%s: %s", "node", SaslAuthenticateRequest(SECRET.encode()))
        logging.getLogger("kafka.net.connection").debug("%s: Connection made", "node")
    assert caplog.messages == ["node: Connection made"]


@pytest.mark.rule("B2", "B4")
@pytest.mark.parametrize("refusal", Refusal)
def test_advice_names_settings_and_no_values(refusal):
    """B2, B4: where a Secret is may be said."""
    security = Security.of({**PLAIN, "sasl_plain_username": "alice", "sasl_plain_password": Secret.env("PASSWORD")})
    text = advice(refusal, security)
    assert len(text) > len(refusal.value) + 10
    assert "alice" not in text
    assert (refusal is Refusal.CREDENTIALS) == ("environment variable PASSWORD" in text)


@pytest.mark.rule("B4")
def test_msk_tokens_are_signed_urls(monkeypatch):
    """The format that Amazon documents: a base64url URL of the cluster's region, presigned for kafka-cluster:Connect, 15 minutes.

    B4: neither the settings nor the token hold the secret key.
    """
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    config = pickle.loads(pickle.dumps(msk_iam("eu-west-1")))
    assert SECRET.encode() not in pickle.dumps(config)
    token = Security.of(Kafka("b-1.example:9098", config=config).config).new_token()
    url = urllib.parse.urlparse(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())
    query = {name: values[0] for name, values in urllib.parse.parse_qs(url.query).items()}
    assert (url.scheme, url.netloc) == ("https", "kafka.eu-west-1.amazonaws.com")
    assert query["Action"] == "kafka-cluster:Connect"
    assert query["X-Amz-Algorithm"] == "AWS4-HMAC-SHA256"
    assert query["X-Amz-Credential"].startswith("AKIAEXAMPLE/")
    assert query["X-Amz-Credential"].endswith("/eu-west-1/kafka-cluster/aws4_request")
    assert query["X-Amz-Security-Token"] == "session"
    assert query["X-Amz-Expires"] == "900"
    assert len(query["X-Amz-Signature"]) == 64
    assert SECRET not in url.query


@pytest.mark.rule("B2")
def test_no_aws_credentials_say_so(monkeypatch, tmp_path):
    """B2: with the region, when a token is needed."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="no secret from AWS credentials, for MSK in eu-west-1"):
        Security.of(msk_iam("eu-west-1")).new_token()
