r"""How `cat` writes a record: bytes in, bytes out. Pure.

A format is kcat's: `%t` topic, `%p` partition, `%o` offset, `%k` key, `%K` its length, `%s` value, `%S` its length, `%T` timestamp
in milliseconds, `%h` headers as name=value,name=value, and `%w`, which kcat has not: the store that it was read from. `%%` is
a percent sign; `\n`, `\r`, `\t`, `\\` and `\xHH` are what they are in C. A length of -1 is that of no key, or no value.
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import msgspec

from beam_unified.errors import ConfigError
from beam_unified.records import Batch, Headers, Record

Render = Callable[[Batch], Iterator[bytes]]
"""Bytes of each record of a batch, in order."""

_TOKEN = re.compile(
    r"%(?P<field>.)|\\x(?P<byte>[0-9a-fA-F]{2})|\\(?P<escape>.)|(?P<text>[^%\\]+)|(?P<end>[%\\])", re.DOTALL
)
_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "\\": b"\\", "0": b"\0"}


def values(batch: Batch, *, null: bytes = b"") -> Iterator[bytes]:
    """Values, a line each."""
    return ((null if value is None else value) + b"\n" for value in batch.values())


def json_lines(batch: Batch) -> Iterator[bytes]:
    """An object a line. Bytes that are no UTF-8 stand in base64, under `key_base64`, `value_base64`: nothing is lost."""
    encode = msgspec.json.Encoder().encode
    return (encode(_document(record)) + b"\n" for record in batch.iter_records())


def formatted(text: str, *, null: bytes = b"") -> Render:
    """Compiles a format. Raises ConfigError that names what is wrong with it."""
    pieces = list(_pieces(text, null))
    return partial(_format, pieces)


def _format(pieces: Iterable[Callable[[Record], bytes]], batch: Batch) -> Iterator[bytes]:
    return (b"".join([piece(record) for piece in pieces]) for record in batch.iter_records())


def _pieces(text: str, null: bytes) -> Iterator[Callable[[Record], bytes]]:
    fields = _fields(null)
    for token in _TOKEN.finditer(text):
        match token.lastgroup, token[token.lastgroup or 0]:
            case "text", literal:
                yield partial(_literal, literal.encode())
            case "byte", digits:
                yield partial(_literal, bytes.fromhex(digits))
            case "escape", letter if letter in _ESCAPES:
                yield partial(_literal, _ESCAPES[letter])
            case "field", "%":
                yield partial(_literal, b"%")
            case "field", letter if letter in fields:
                yield fields[letter]
            case _:
                known = " ".join(f"%{letter}" for letter in fields)
                raise ConfigError(
                    f"--format: {token[0]!r} means nothing; there is {known} %% and \\n \\r \\t \\0 \\\\ \\xHH."
                )


def _literal(content: bytes, record: Record) -> bytes:
    del record
    return content


def _fields(null: bytes) -> dict[str, Callable[[Record], bytes]]:
    def length(content: bytes | None) -> bytes:
        return b"-1" if content is None else b"%d" % len(content)

    return {
        "t": lambda record: record.topic.encode(),
        "p": lambda record: b"%d" % record.partition,
        "o": lambda record: b"%d" % record.offset,
        "k": lambda record: null if record.key is None else record.key,
        "K": lambda record: length(record.key),
        "s": lambda record: null if record.value is None else record.value,
        "S": lambda record: length(record.value),
        "T": lambda record: b"-1" if record.timestamp is None else b"%d" % record.timestamp,
        "h": lambda record: _headers(record.headers, null),
        "w": lambda record: record.store.encode(),
    }


def _headers(headers: Headers, null: bytes) -> bytes:
    return b",".join(name.encode() + b"=" + (null if value is None else value) for name, value in headers)


def _document(record: Record) -> dict[str, object]:
    kind = record.timestamp_type
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        "timestamp_type": None if kind is None else kind.name.lower(),
        **_content("key", record.key),
        **_content("value", record.value),
        "headers": [{"name": name, **_content("value", value)} for name, value in record.headers],
        "store": record.store,
    }


def _content(name: str, content: bytes | None) -> dict[str, str | None]:
    if content is None:
        return {name: None}
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(content).decode()}
