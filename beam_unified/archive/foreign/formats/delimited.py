"""Values with a separator behind each, as ByteArrayFormat of Confluent's sinks writes them.

A value that holds the separator cannot be told from two: nothing in the file shows it, only a known number of records does.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

from beam_unified.archive.foreign.formats.streams import Compression, batched, converted, opened, separated
from beam_unified.archive.foreign.sequence_file import Readable

_T = TypeVar("_T")


def read(
    file: Readable,
    size_bytes: int,
    convert: Callable[[bytes], _T],
    *,
    separator: bytes = b"\n",
    compression: Compression = "none",
) -> Iterator[list[_T]]:
    """The values of a file, which ends with a separator; an empty file has none."""
    values = separated(opened(file, size_bytes, compression), separator, ended=True)
    return batched(converted(values, lambda value: (convert(value), len(value) + len(separator))))
