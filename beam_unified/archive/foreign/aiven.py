"""Archives of Aiven's sinks for S3, GCS and Azure: a layout. Their names are in `aiven_names`, rows in `formats.envelope`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from beam_unified.archive.foreign.aiven_names import DEFAULT_TEMPLATE, AivenNames
from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.formats import avro, csv_lines, json_text, parquet
from beam_unified.archive.foreign.formats.encoding import Encode, as_json, as_text, of_json
from beam_unified.archive.foreign.formats.envelope import FIELDS, Envelope, Field, Row, unwrapped
from beam_unified.archive.foreign.formats.streams import COMPRESSIONS, Compression
from beam_unified.archive.foreign.layout import LACKS, Completeness, FileName, Lack, OpenFile
from beam_unified.errors import ConfigError

Format = Literal["csv", "jsonl", "json", "parquet", "avro"]
FORMATS: tuple[Format, ...] = get_args(Format)

_SUFFIXES = {"none": "", "gzip": ".gz", "snappy": ".snappy", "zstd": ".zst"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Aiven:
    """Files of Aiven's sinks: layout=Aiven(format="jsonl", fields=("key", "value", "offset")).

    Lacks what is not among `fields`. With "offset" there offsets are exact, whatever the template. Without it, as by the sink's
    default, which writes values alone, row i is offset start + i only if every offset has a record: `dense=True` must say so, and
    a template with {{timestamp}} is refused, for its files interleave. What can go wrong then is what `Confluent` says of its
    `dense`; a file whose number of records does not reach the next one's start, or goes beyond, is an error.

    Traps: values, but for CSV's, are decoded ones, not Kafka's bytes: `encode` makes bytes of them again. In CSV an empty key or
    value looks like none, and is read as None. In Avro and Parquet headers are a map, in which one of several with the same name
    is left. `format.output.fields.value.encoding=none` with CSV cannot be read (nothing is escaped). Without an envelope, values
    in Avro and Parquet that are no records have one nevertheless, with the field "value": leave `envelope=True` for them. A sink
    whose topic is reprocessed writes some files again, with other boundaries: they are merged by offset, where there are some.

    Args:
        format: `format.output.type`.
        fields: `format.output.fields`, in that order; "value" among them.
        template: `file.name.template`. None for the default, `{{topic}}-{{partition}}-{{start_offset}}`, and the compression's
            suffix.
        prefix: What stands before the template: `file.name.prefix`, `aws.s3.prefix`.
        compression: `file.compression.type`; of "parquet" it is inside, and need not be said.
        envelope: False for `format.output.envelope=false`, where values are the only field.
        dense: See above; only without "offset" in `fields`.
        folders_by: "kafka" where {{timestamp}} is Kafka's, in UTC (`file.name.timestamp.source=event`): starts by time then need
            not read earlier files.
        encode: Of values.
        encode_key: Of keys.
        encode_header: Of the values of headers.
        completeness: What is known about holes.

    Raises:
        ConfigError: an option that cannot work: compacting templates ({{key}}), fields without "value", offsets that nothing shows.
    """

    format: Format
    fields: tuple[Field, ...] = ("value",)
    template: str | None = None
    prefix: str = ""
    compression: Compression = "none"
    envelope: bool = True
    dense: bool = False
    folders_by: str | None = None
    encode: Encode = field(default=as_json, repr=False)
    encode_key: Encode = field(default=as_text, repr=False)
    encode_header: Encode = field(default=as_text, repr=False)
    completeness: Completeness = field(default_factory=Completeness, repr=False)

    def __post_init__(self) -> None:
        if not set(self.fields) <= set(FIELDS) or len(set(self.fields)) < len(self.fields):
            raise ConfigError(f"fields is some of {', '.join(FIELDS)}, each once, got {self.fields!r}.")
        object.__setattr__(self, "fields", tuple(self.fields))
        if self.format not in FORMATS or self.compression not in COMPRESSIONS:
            raise ConfigError(
                f"format must be one of {', '.join(FORMATS)}, compression one of {', '.join(COMPRESSIONS)}, "
                f"got {self.format!r} and {self.compression!r}."
            )
        if "value" not in self.fields:
            raise ConfigError("fields has no 'value': there is no log without values.")
        if not self.envelope and (len(self.fields) > 1 or self.format == "csv"):
            raise ConfigError("envelope=False is for a single field, of formats other than csv.")
        if self.folders_by not in {None, "kafka"}:
            raise ConfigError(f"folders_by must be 'kafka' or None, got {self.folders_by!r}.")
        self._check_density()

    def _check_density(self) -> None:
        names = self._names()
        if "offset" in self.fields:
            if self.dense:
                raise ConfigError("dense=True is for files without offsets; here they are among fields.")
            return
        if names.by_time:
            raise ConfigError(
                f"template {names.template!r} sorts records of a partition by their times into files, and without 'offset' in "
                "fields nothing says which is which. Write another archive, with offset in format.output.fields."
            )
        if not self.dense:
            raise ConfigError(
                "without 'offset' in fields offsets can only be counted, which is right if every offset has a record: dense=True "
                "says so; see the docstring for what can go wrong. Better: offset in format.output.fields."
            )
        if self.completeness.max_hole != 0:
            raise ConfigError("dense=True says that every offset has a record, and completeness that some have none.")

    @property
    def lacks(self) -> frozenset[Lack]:
        """What is not among the fields."""
        return frozenset(lack for lack in LACKS if lack not in self.fields)

    def folder(self, topic: str) -> str:
        """What the prefix and the beginning of the template say; files of other topics may be there, too."""
        return self._names().folder(topic)

    def parse(self, topic: str, path: str) -> FileName | None:
        """See `Layout.parse`."""
        file = self._names().parse(topic, path)
        if file is None:
            return None
        smallest, largest = (file.span if self.folders_by == "kafka" else None) or (None, None)
        return FileName(partition=file.partition, start=file.start, min_timestamp=smallest, max_timestamp=largest)

    @property
    def counted(self) -> bool:
        """Offsets are counted where they are not among the fields."""
        return "offset" not in self.fields

    def stop_of(self, name: FileName, after: int | None, tags: Callable[[], Mapping[str, str]]) -> int | None:
        """See `coverage.CountsRows`."""
        return after

    def read(self, path: str, open_file: OpenFile) -> Iterator[Columns]:
        """See `Layout.read`."""
        envelope = Envelope(fields=self.fields, value=self.encode, key=self.encode_key, header=self.encode_header)
        return (envelope.columns(rows) for rows in self._rows(path, open_file, envelope))

    def _rows(self, path: str, open_file: OpenFile, envelope: Envelope) -> Iterator[list[Row]]:
        file, size = open_file(path)
        of_mapping = envelope.of_mapping if self.envelope else unwrapped(self.encode)
        of_text = envelope.of_json if self.envelope else unwrapped(of_json(self.encode))
        match self.format:
            case "csv":
                return csv_lines.read(file, size, envelope.of_csv, compression=self.compression)
            case "avro":
                return avro.read(file, size, of_mapping, compression=self.compression)
            case "parquet":
                return parquet.read(file, size, of_mapping)
            case _:
                array = self.format == "json"
                return json_text.read(file, size, of_text, compression=self.compression, ended=False, array=array)

    def _names(self) -> AivenNames:
        if self.template is not None:
            return AivenNames(self.template, self.prefix)
        return AivenNames(DEFAULT_TEMPLATE + _SUFFIXES[self.compression], self.prefix)
