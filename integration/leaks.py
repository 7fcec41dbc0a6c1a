"""Looks for secrets where they must not be, also where Beam packs things: pickled, compressed, in base64.

Called by the tests of security.
"""

import base64
import binascii
import bz2
import re
import zlib
from collections.abc import Callable, Iterator, Mapping

_BASE64 = re.compile(rb"[A-Za-z0-9+/]{40,}={0,2}")
_UNPACK: tuple[Callable[[bytes], bytes], ...] = (bz2.decompress, zlib.decompress)


def found(secrets: Mapping[str, str], places: Mapping[str, str | bytes]) -> list[str]:
    """Which secret is in which place, as "name in place".

    Args:
        secrets: By name.
        places: Texts, and bytes, by name.
    """
    hits = []
    for place, content in places.items():
        layers = list(_layers(content.encode() if isinstance(content, str) else content))
        for name, secret in secrets.items():
            forms = {secret.encode(), base64.b64encode(secret.encode()).rstrip(b"=")}
            if any(form in layer for layer in layers for form in forms):
                hits.append(f"{name} in {place}")
    return hits


def _layers(data: bytes) -> Iterator[bytes]:
    """The data, and what is packed in it, however deep."""
    yield data
    for match in _BASE64.finditer(data):
        try:
            decoded = base64.b64decode(match.group(), validate=True)
        except binascii.Error:
            continue
        for unpack in _UNPACK:
            try:
                yield from _layers(unpack(decoded))
            except (OSError, ValueError, EOFError, zlib.error):
                continue
