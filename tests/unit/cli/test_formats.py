"""How records are written: exactly, whatever bytes they hold."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.cli.formats import formatted, json_lines, values
from beam_unified.errors import ConfigError
from beam_unified.records import ListBatch, Record, Store, TimestampType
from tests.strategies import records

ONE = Record(b"k", b"v\xff", (("a", b"1"), ("b", None)), "pins", 3, 42, 1_000, TimestampType.CREATE_TIME, "kafka")


def batch(*found: Record) -> ListBatch:
    return ListBatch(found, Store.KAFKA)


def test_a_format_is_kcats():
    """Every field, and the escapes of C."""
    text = r"%t[%p]@%o %T %k/%K %s/%S %h %w%%\t\x41\\\n"
    assert list(formatted(text)(batch(ONE))) == [b"pins[3]@42 1000 k/1 v\xff/2 a=1,b= kafka%\tA\\\n"]


def test_what_is_not_there_is_empty_or_null():
    """A length of -1 tells no value from an empty one."""
    bare = Record(None, None, (), "pins", 0, 0, None, None, "kafka")
    assert list(formatted("%k,%K,%s,%S,%T", null=b"NULL")(batch(bare))) == [b"NULL,-1,NULL,-1,-1"]
    assert list(formatted("%k,%K")(batch(bare))) == [b",-1"]
    assert list(values(batch(bare, ONE), null=b"NULL")) == [b"NULL\n", b"v\xff\n"]


@pytest.mark.parametrize("text", ["%x", "%", "\\q", "100% sure", "\\x4"])
def test_a_format_that_means_nothing_is_refused(text):
    """Before anything is read."""
    with pytest.raises(ConfigError, match="--format"):
        formatted(text)


@given(st.lists(records(), min_size=1, max_size=3))
def test_json_loses_nothing(found):
    """From the lines alone every record can be made again, to the byte."""
    lines = list(json_lines(batch(*found)))
    assert [made(json.loads(line)) for line in lines] == [record._replace(store="kafka") for record in found]
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)


def made(document) -> Record:
    kind = document["timestamp_type"]
    return Record(
        content(document, "key"),
        content(document, "value"),
        tuple((header["name"], content(header, "value")) for header in document["headers"]),
        document["topic"],
        document["partition"],
        document["offset"],
        document["timestamp"],
        None if kind is None else TimestampType[kind.upper()],
        document["store"],
    )


def content(document, name) -> bytes | None:
    if f"{name}_base64" in document:
        return base64.b64decode(document[f"{name}_base64"])
    text = document[name]
    return None if text is None else text.encode()
