"""Decoded values -> bytes. Kafka's own are not in a structured file: the sink has decoded them, and these are the ways back.

`Encode` is any function of a decoded value (dict, list, str, int, ..., None) to bytes or None; None stands for a tombstone.
"""

import base64
import json
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

Encode = Callable[[Any], bytes | None]


def as_json(value: Any) -> bytes | None:
    """JSON in UTF-8: keys sorted, no spaces, so that equal values are equal bytes; None and bytes stay as they are.

    Inside of a value bytes are base64, times ISO 8601, decimals text. What is no number is NaN, Infinity or -Infinity, as
    Python writes it. Of JSON files it is the text as it stands, neither sorted nor rounded (`of_json`).
    """
    if value is None or isinstance(value, bytes):
        return value
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_plain).encode()


def as_text(value: Any) -> bytes | None:
    """Text in UTF-8, without quotes, as StringConverter reads it; anything else as `as_json`."""
    return value.encode() if isinstance(value, str) else as_json(value)


def from_base64(value: Any) -> bytes | None:
    """Bytes as they were, where ByteArrayConverter read them and JSON holds them in base64. Raises ValueError."""
    if value is None or isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise ValueError(f"base64 is text, found {type(value).__name__}")  # noqa: TRY004 - it is data that is wrong
    return base64.b64decode(value, validate=True)


def of_json(encode: Encode) -> Callable[[bytes | msgspec.Raw], bytes | None]:
    """The function for values that are still JSON. Raises what msgspec raises over text that is not JSON."""
    if encode is as_json:
        return _checked
    return lambda text: encode(msgspec.json.decode(text))


def _checked(text: bytes | msgspec.Raw) -> bytes | None:
    found = bytes(msgspec.json.decode(text, type=msgspec.Raw))
    return None if found == b"null" else found


def _plain(value: Any) -> str:
    match value:
        case bytes():
            return base64.b64encode(value).decode()
        case datetime() | date() | time():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
        case _:
            raise ValueError(f"no JSON for a {type(value).__name__}")
