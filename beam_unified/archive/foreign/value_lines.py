"""A value a line, and nothing else: what AWS MSK's delivery and many tools write of JSON and text. A format for `Template`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.formats import delimited
from beam_unified.archive.foreign.formats.streams import COMPRESSIONS, Compression
from beam_unified.archive.foreign.layout import LACKS, Lack
from beam_unified.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ValueLines:
    r"""The format. Lacks key, timestamp and headers, and holds no offsets: `dense=True` must say that they can be counted.

    Trap: a value that holds the separator is two; where the next file's start shows it, that is an error.

    Args:
        compression: "none", "gzip", "snappy" or "zstd".
        separator: Behind every value, the last one, too.

    Raises:
        ConfigError: an option that cannot work.
    """

    compression: Compression = "none"
    separator: bytes = b"\n"
    counted: ClassVar[bool] = True
    lacks: ClassVar[frozenset[Lack]] = frozenset(LACKS)

    def __post_init__(self) -> None:
        if self.compression not in COMPRESSIONS:
            raise ConfigError(f"compression must be one of {', '.join(COMPRESSIONS)}, got {self.compression!r}.")
        if not self.separator:
            raise ConfigError("separator must not be empty.")

    def read(self, file: pa.NativeFile, size_bytes: int, /) -> Iterator[Columns]:
        """The values. Raises BadFileError where the file is damaged or cut short."""
        found = delimited.read(file, size_bytes, bytes, separator=self.separator, compression=self.compression)
        return (Columns(values) for values in found)
