"""Archives of Confluent's sinks for S3, GCS, Azure and HDFS: a layout. Their names are in `confluent_names`."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.confluent_names import ConfluentNames, DefaultPartitioner, Partitioner, Side
from beam_unified.archive.foreign.coverage import parse_tags
from beam_unified.archive.foreign.formats import avro, delimited, json_text, parquet, side_files
from beam_unified.archive.foreign.formats.encoding import Encode, as_json, as_text, of_json
from beam_unified.archive.foreign.layout import Completeness, FileName, Lack, OpenFile
from beam_unified.errors import ConfigError

Format = Literal["avro", "json", "bytes", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)

_EXTENSIONS = {
    "avro": r"\.avro",
    "json": r"\.json",
    "parquet": r"(?:\.(?:snappy|gz|zstd|lz4|lz4raw|br|lzo))?\.parquet",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Confluent:
    """Files of Confluent's sinks below `<root>/<topics dir>/<topic>`: layout=Confluent(format="avro", ends="tags").

    Lacks: Kafka's timestamp, always; key and headers unless the sink wrote them beside the values (`store.kafka.keys`,
    `store.kafka.headers`). Values are decoded ones, not Kafka's bytes (but for "bytes"): `encode` makes bytes of them again.

    **Offsets are in no file.** Row i has offset start + i where there is a record for each offset from start to the file's end, and
    else which record has which offset cannot be known. `ends` says where that end is:

    - "tags": with `s3.object.tagging=true` of the S3 sink, an object's tags hold first and last offset and number of records; one
      more request a file. Shown for each file.
    - "names": of the HDFS sink, whose names hold first and last offset. Shown for each file, by counting its rows.
    - None: where the next file of the partition begins. That shows nothing by itself, so `dense=True` must say it.

    A file whose number of records is not that of its range is an error that names it. So are, by tags and names, the files of the
    partitioners by field or time in which several folders were filled at once.

    What can go wrong with `dense=True` although it is not: where a file has as many holes (transactions, compaction, records that
    the sink dropped) as records twice, every offset between them is wrong. In the newest file of a partition nothing is counted:
    behind a hole in it offsets are too small, records seem to come before those in Kafka that they follow, and some are read
    twice, from both stores. Files of partitioners by field or time interleave: where by chance the numbers fit, offsets are
    wrong. Overlapping files, which `enable.conditional.writes` makes, are errors.

    Traps: a record of "bytes" that holds the separator is two. Header values are text, whatever they were. A topic whose
    tombstones are in a folder of their own (`behavior.on.null.values=write`) has holes elsewhere. `encode` and its like travel
    with the pipeline: functions of a module, no lambdas.

    Args:
        format: Of values: `format.class`.
        ends: See above.
        dense: See above; only with `ends=None`.
        compression: Of "json" and "bytes": "gzip" for `s3.compression.type=gzip`.
        keys: Format of the files of keys, where there are some. Parquet beside another format is looked for as `.snappy.parquet`.
        headers: Format of the files of headers, where there are some; "bytes" cannot be.
        partitioner: Of `partitioner.class`: DefaultPartitioner(), FieldPartitioner(names), TimeBasedPartitioner(path_format),
            DAILY, HOURLY.
        topics_dir: Of `topics.dir`.
        file_delim: Of `file.delim`.
        separator: Of "bytes": `format.bytearray.separator`.
        extension: Of "bytes": `format.bytearray.extension`.
        encode: Of values.
        encode_key: Of keys.
        encode_header: Of the values of headers.
        completeness: What is known about holes between files.

    Raises:
        ConfigError: an option that cannot work, or offsets that nothing shows.
    """

    format: Format
    ends: Literal["tags", "names"] | None = None
    dense: bool = False
    compression: Literal["none", "gzip"] = "none"
    keys: Format | None = None
    headers: Format | None = None
    partitioner: Partitioner = field(default_factory=DefaultPartitioner)
    topics_dir: str = "topics"
    file_delim: str = field(default="+", repr=False)
    separator: bytes = field(default=b"\n", repr=False)
    extension: str = field(default=".bin", repr=False)
    encode: Encode = field(default=as_json, repr=False)
    encode_key: Encode = field(default=as_text, repr=False)
    encode_header: Encode = field(default=as_text, repr=False)
    completeness: Completeness = field(default_factory=Completeness, repr=False)

    def __post_init__(self) -> None:
        for option in ("format", "keys", "headers"):
            found = getattr(self, option)
            if found not in FORMATS and (found is not None or option == "format"):
                raise ConfigError(f"{option} must be one of {', '.join(FORMATS)}, got {found!r}.")
        if self.headers == "bytes":
            raise ConfigError("headers='bytes' cannot be: the sink refuses to write headers so.")
        if self.compression not in {"none", "gzip"}:
            raise ConfigError(f"compression must be 'none' or 'gzip', got {self.compression!r}.")
        if not self.separator or not self.file_delim:
            raise ConfigError("separator and file_delim are not empty.")
        self._check_density()

    def _check_density(self) -> None:
        if self.ends not in {None, "tags", "names"}:
            raise ConfigError(f"ends must be 'tags', 'names' or None, got {self.ends!r}.")
        if self.ends is None and not self.dense:
            raise ConfigError(
                "files of Confluent's sinks hold no offsets. Where they have tags (s3.object.tagging=true) pass ends='tags', where "
                "their names have the last offset (HDFS) ends='names'. Otherwise offsets can only be counted, which is right if "
                "every offset has a record and files do not interleave: dense=True says so; its docstring tells what can go wrong."
            )
        if self.ends is not None and self.dense:
            raise ConfigError(f"dense=True is for files of which nothing says where they end; here ends={self.ends!r}.")
        if self.dense and self.completeness.max_hole != 0:
            raise ConfigError("dense=True says that every offset has a record, and completeness that some have none.")

    @property
    def lacks(self) -> frozenset[Lack]:
        """The timestamp; key and headers where they are not beside the values."""
        found: set[Lack] = {"timestamp"}
        if self.keys is None:
            found.add("key")
        if self.headers is None:
            found.add("headers")
        return frozenset(found)

    def folder(self, topic: str) -> str:
        """The topic's."""
        return self._names().folder(topic)

    def parse(self, topic: str, path: str) -> FileName | None:
        """See `Layout.parse`. Files of keys and headers are none of their own."""
        file = self._names().parse(topic, path)
        if file is None or file.side:
            return None
        stop = None if file.last is None else file.last + 1
        return FileName(partition=file.partition, start=file.start, stop=stop)

    @property
    def counted(self) -> bool:
        """No file of the sink holds offsets."""
        return True

    def stop_of(self, name: FileName, after: int | None, tags: Callable[[], Mapping[str, str]]) -> int | None:
        """See `coverage.CountsRows`."""
        if self.ends == "names":
            return name.stop
        if self.ends is None:
            return after
        found = parse_tags(tags())
        if found is None:
            raise BadFileError(
                "it has no tags startOffset, endOffset and recordCount: was s3.object.tagging=true when it was written?"
            )
        if found.start != name.start:
            raise BadFileError(f"its tags say that it begins at offset {found.start}")
        if not found.dense:
            raise BadFileError(
                f"its tags say {found.records} records for offsets {found.start} to {found.last}: some have no record, so which "
                "record has which offset is not known. Read these offsets from Kafka, or from a copy that stores them"
            )
        return found.last + 1

    def read(self, path: str, open_file: OpenFile) -> Iterator[Columns]:
        """See `Layout.read`; offsets are counted by whoever reads, see `stop_of`."""
        values = self._lists(path, "", self.format, open_file)
        keys = None if self.keys is None else self._lists(path, ".keys", self.keys, open_file)
        headers = None if self.headers is None else self._lists(path, ".headers", self.headers, open_file)
        return side_files.aligned(values, keys, headers)

    def _lists(self, path: str, side: Side, kind: Format, open_file: OpenFile) -> Iterator[list[Any]]:
        file, size = open_file(path if not side else self._beside(path, side, kind))
        convert = self._convert(side, kind)
        match kind:
            case "avro":
                return avro.read(file, size, convert)
            case "parquet":
                return parquet.read(file, size, convert)
            case "json":
                return json_text.read(file, size, convert, compression=self.compression)
            case _:
                return delimited.read(file, size, convert, separator=self.separator, compression=self.compression)

    def _convert(self, side: Side, kind: Format) -> Callable[[Any], Any]:
        if side == ".headers":
            made = side_files.headers_of_json if kind == "json" else side_files.headers_of
            return made(self.encode_header)
        if kind == "bytes":
            return bytes
        encode = self.encode_key if side else self.encode
        if kind == "json":
            return of_json(encode)
        return side_files.key_of(encode) if side and kind == "parquet" else encode

    def _beside(self, path: str, side: Side, kind: Format) -> str:
        """The path of the file of keys or headers that goes with one of values."""
        file = self._names().parse(None, path)
        assert file is not None
        if kind == "parquet":
            extension = file.extension if self.format == "parquet" else ".snappy.parquet"
        else:
            packed = ".gz" if self.compression == "gzip" and kind in {"json", "bytes"} else ""
            extension = (self.extension if kind == "bytes" else f".{kind}") + packed
        return f"{path.removesuffix(file.extension)}{side}{extension}"

    def _names(self) -> ConfluentNames:
        packed = r"\.gz" if self.compression == "gzip" and self.format in {"json", "bytes"} else ""
        return ConfluentNames(
            extension=(re.escape(self.extension) if self.format == "bytes" else _EXTENSIONS[self.format]) + packed,
            partitioner=self.partitioner,
            topics_dir=self.topics_dir.strip("/"),
            file_delim=self.file_delim,
            ends=self.ends == "names",
        )
