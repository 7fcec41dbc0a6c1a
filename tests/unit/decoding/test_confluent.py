"""A schema registry that does not do its work: an error of the store, never a dead letter, and never a wait without an end."""

import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from confluent_kafka.schema_registry import SchemaRegistryError

from beam_unified import ConfigError, StoreError
from beam_unified.decoding import confluent
from beam_unified.decoding.confluent import ConfluentAvro, ConfluentJson, SchemaRegistry
from beam_unified.records import ListBatch, Record, Store

pytestmark = pytest.mark.rule("B1")


def decode(decoder, value=b"\0\0\0\0\x07\x02"):
    return decoder.open()(ListBatch([Record(None, value, (), "pins", 0, 0, 1, None, "kafka")], Store.KAFKA))


@contextmanager
def registry(status, body):
    """One that has the same answer to everything."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_one_that_accepts_and_never_answers(monkeypatch):
    """There is a timeout without the user's doing, and the error names the registry and the schema."""
    monkeypatch.setattr(confluent, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # Closed after a while, lest this waits for ever where there is no timeout.
        watchdog = threading.Timer(10, silent.close)
        watchdog.start()
        where = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StoreError, match=rf"registry {where} for schema id 7 of pins \(ReadTimeout\)"):
            decode(ConfluentAvro(SchemaRegistry(where, {"max.retries": 0})))
        watchdog.cancel()


def test_the_users_timeout_wins(monkeypatch):
    """It is a setting like any other."""
    monkeypatch.setattr(confluent, "_TIMEOUT", "no number: the client would refuse it")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(StoreError, match="ReadTimeout"):
            decode(ConfluentAvro(SchemaRegistry(where, {"max.retries": 0, "timeout": 0.2})))


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html>default backend - 404</html>"),  # an ingress without a backend
        (404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}'),  # a wrong path, says Confluent's own server
        (401, b'{"error_code": 40101, "message": "Unauthorized"}'),
        (500, b'{"error_code": 50001, "message": "Error in the backend data store"}'),
        (200, b"<html>please log in</html>"),  # a proxy
        (200, b"[]"),
    ],
)
def test_what_is_the_registrys_fault_stops(status, body):
    """A dead letter for each record would hide it."""
    with registry(status, body) as url, pytest.raises(StoreError, match=f"registry {url} for schema id 7 of pins"):
        decode(ConfluentAvro(SchemaRegistry(url, {"max.retries": 0})))


@pytest.mark.parametrize("code", [40401, 40402, 40403])
def test_a_schema_that_the_registry_does_not_have_is_the_records_fault(code):
    """It says so in its error code, not in the status alone."""
    body = json.dumps({"error_code": code, "message": "not found"}).encode()
    with registry(404, body) as url, pytest.raises(SchemaRegistryError, match="not found"):
        decode(ConfluentAvro(SchemaRegistry(url)))


def test_who_gives_tokens_is_away():
    """A fault, too; and no secret in it."""
    oauth = {
        "bearer.auth.credentials.source": "OAUTHBEARER",
        "bearer.auth.issuer.endpoint.url": "http://127.0.0.1:1/token",
        "bearer.auth.client.id": "someone",
        "bearer.auth.client.secret": "hunter2",
        "bearer.auth.scope": "s",
        "bearer.auth.logical.cluster": "l",
        "max.retries": 0,
    }
    with pytest.raises(StoreError, match="OAuthTokenError") as caught:
        decode(ConfluentAvro(SchemaRegistry("http://127.0.0.1:1", oauth)))
    assert "hunter2" not in str(caught.value)


@pytest.mark.rule("B2")
@pytest.mark.parametrize(
    ("decoder", "schema", "match"),
    [
        (ConfluentAvro, "garbage", "reader_schema is no Avro schema"),
        (ConfluentAvro, '{"type": "objekt"}', "reader_schema is no Avro schema"),
        (ConfluentJson, "garbage", "not a JSON Schema"),
        (ConfluentJson, '{"type": "objekt"}', "not a JSON Schema"),
    ],
)
def test_a_reader_schema_that_is_none_is_refused_when_built(decoder, schema, match):
    """Else each record would be a dead letter, or the worker would fail."""
    with pytest.raises(ConfigError, match=match):
        decoder(SchemaRegistry("http://127.0.0.1:1"), schema)
