"""CSV as Aiven's sinks write it: a line a record, without a header, fields in base64 or numbers, newlines between lines.

So there is nothing to quote. A file holds at least one record: an empty one is a single field that is null.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from beam_unified.archive.foreign.formats.streams import Compression, batched, converted, opened, separated
from beam_unified.archive.foreign.sequence_file import Readable

_T = TypeVar("_T")


def read(
    file: Readable, size_bytes: int, convert: Callable[[Sequence[bytes]], _T], *, compression: Compression = "none"
) -> Iterator[list[_T]]:
    """The lines of a file, `convert` of the fields of each."""
    lines = separated(opened(file, size_bytes, compression), b"\n", ended=False)
    return batched(converted(lines, lambda line: (convert(line.split(b",")), len(line) + 1)))
