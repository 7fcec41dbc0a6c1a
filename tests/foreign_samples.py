"""Small valid files of every format of other tools, with how each is read and what is in it. For tests of readers, and fuzzing.

Those of Java are by the writers that Kafka Connect's sinks use, SequenceFiles by Hadoop's (tests/data). The others are by fastavro,
pyarrow, kafka-python's snappy and Python itself: the same containers.
"""

import base64
import gzip
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from kafka.codec import snappy_encode

from beam_unified.archive.foreign import sequence_file
from beam_unified.archive.foreign.aiven import Aiven
from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.confluent import Confluent
from beam_unified.archive.foreign.formats.encoding import as_json
from beam_unified.archive.foreign.formats.envelope import Field
from beam_unified.archive.foreign.json_envelope import JsonEnvelope
from beam_unified.archive.foreign.secor import Secor
from tests.data import secor

ROWS = 40
FIELDS: tuple[Field, ...] = ("key", "value", "offset", "timestamp", "headers")
SYNC = b"0123456789abcdef"
T0 = 1_794_830_400_123
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": lambda content: gzip.compress(content, mtime=0),
    "snappy": lambda content: snappy_encode(content, xerial_compatible=True, xerial_blocksize=512),
    "zstd": zstandard.ZstdCompressor().compress,
}
AVRO_CODECS = ("null", "deflate", "snappy", "bzip2", "xz", "zstandard")
PARQUET_CODECS = ("none", "snappy", "gzip", "zstd")

VALUE_SCHEMA = {
    "type": "record",
    "name": "Pin",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "text", "type": ["null", "string"]},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
    ],
}
ENVELOPE_SCHEMA = {
    "type": "record",
    "name": "connector_records",
    "namespace": "io.aiven.avro",
    "fields": [
        {"name": "key", "type": ["null", "string"]},
        {"name": "value", "type": ["null", VALUE_SCHEMA]},
        {"name": "offset", "type": "long"},
        {"name": "timestamp", "type": "long"},
        {"name": "headers", "type": {"type": "map", "values": "bytes"}},
    ],
}
VALUE_TYPE = pa.struct([("id", pa.int64()), ("text", pa.string()), ("tags", pa.list_(pa.string()))])
ENVELOPE_TYPE = pa.schema(
    [
        ("key", pa.string()),
        ("value", VALUE_TYPE),
        ("offset", pa.int64()),
        ("timestamp", pa.int64()),
        ("headers", pa.map_(pa.string(), pa.binary())),
    ]
)


@dataclass(frozen=True)
class Sample:
    """A file.

    Attributes:
        name: Format and compression.
        content: Its bytes.
        read: What is in a file of these, or other, bytes.
        expected: What is in this one.
        plain: The bytes before they were compressed as a whole.
        pack: How they were.
    """

    name: str
    content: bytes
    read: Callable[[bytes], list[Columns]]
    expected: Columns
    plain: bytes = b""
    pack: Callable[[bytes], bytes] = bytes


def value(number: int) -> dict[str, Any]:
    """The value of a record, decoded."""
    return {"id": 10**12 + number, "text": None if number % 7 == 0 else f"pin {number} ü", "tags": ["a"] * (number % 3)}


def joined(batches: Sequence[Columns]) -> Columns:
    """The columns of a whole file, as lists."""
    found: list[Any] = []
    for name in Columns._fields:
        columns = [getattr(batch, name) for batch in batches]
        found.append(None if columns[0] is None else [one for column in columns for one in column])
    return Columns(*found)


def as_lists(columns: Columns) -> Columns:
    """The same, to be compared."""
    found: list[Any] = [None if column is None else list(column) for column in columns]
    return Columns(*found)


def dumped(thing: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(thing, separators=(",", ":"), ensure_ascii=False).encode()


def samples() -> list[Sample]:
    """All of them, in the same order every time."""
    return [*_sequence_files(), *_message_pack(), *_lenses(), *_confluent(), *_aiven(), *_java()]


def avro_of(schema: Any, rows: Sequence[Any], codec: str = "null") -> bytes:
    """A container file of several blocks."""
    out = io.BytesIO()
    if codec == "zstandard":  # fastavro would need one more library
        return framed(schema, b"".join(one_avro(schema, row) for row in rows), len(rows), codec, COMPRESS["zstd"])
    fastavro.writer(out, fastavro.parse_schema(schema), rows, codec=codec, sync_interval=400, sync_marker=SYNC)
    return out.getvalue()


def one_avro(schema: Any, row: Any) -> bytes:
    """A value without a container."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), row)
    return out.getvalue()


def framed(schema: Any, block: bytes, count: int, codec: str, compress: Callable[[bytes], bytes] = bytes) -> bytes:
    """A container file of one block, which claims so many values."""
    header = {"avro.schema": json.dumps(schema).encode(), "avro.codec": codec.encode()}
    packed = compress(block)
    metadata = one_avro({"type": "map", "values": "bytes"}, header)
    return b"Obj\x01" + metadata + SYNC + one_avro("long", count) + one_avro("long", len(packed)) + packed + SYNC


def parquet_of(table: pa.Table, codec: str = "none") -> bytes:
    """A file of two row groups, with checksums, as parquet-mr writes them."""
    out = io.BytesIO()
    pq.write_table(table, out, compression=codec, row_group_size=25, write_page_checksum=True)
    return out.getvalue()


def read_with(layout: Any, path: str) -> Callable[[bytes], list[Columns]]:
    """Reads bytes as if they were the file of that path."""
    return lambda content: list(layout.read(path, lambda _: (pa.BufferReader(content), len(content))))


def _sequence_files() -> list[Sample]:
    folder = Path(__file__).parent / "data" / "sequence_files"
    expected = Columns([b"value-%d" % n for n in range(300)], [7 + 2 * n for n in range(300)])
    return [
        Sample(
            f"sequence_file {path.name}",
            path.read_bytes(),
            lambda content: list(sequence_file.read(io.BytesIO(content), len(content))),
            expected,
        )
        for path in sorted(folder.iterdir())
        if path.suffix != ".java" and "MessagePack" not in path.name
    ]


def _message_pack() -> list[Sample]:
    """Secor's files with keys in MessagePack, of which `tests.data.secor` says what is in them."""
    found: list[Sample] = []
    for path in sorted((secor.FOLDER / "message_pack" / secor.TOPIC).rglob("1_*")):
        read = read_with(Secor(keys="message_pack"), str(path.relative_to(secor.FOLDER / "message_pack")))
        content, partition = path.read_bytes(), int(path.name.split("_")[1])
        offsets = list(joined(read(content)).offsets or ())
        expected = Columns(
            [secor.value_of(partition, offset) for offset in offsets],
            offsets,
            [secor.key_of(offset) for offset in offsets],
            [secor.timestamp_of(offset) for offset in offsets],
        )
        found.append(Sample(f"message_pack {path.name} {len(found)}", content, read, expected))
    return found


def _lenses() -> list[Sample]:
    rows = envelopes()
    plain = b"".join(
        dumped(
            {
                "key": row["key"],
                "value": row["value"],
                "headers": {name: content.decode() for name, content in row["headers"]},
                "metadata": {"offset": row["offset"], "partition": 0, "timestamp": row["timestamp"], "topic": "pins"},
            }
        )
        + b"\n"
        for row in rows
    )
    return [
        Sample(
            f"lenses {packed}",
            COMPRESS[packed](plain),
            lambda content, compression=compression: list(  # type: ignore[misc]  # mypy does not infer lambdas with defaults
                JsonEnvelope(compression).read(pa.BufferReader(content), len(content))
            ),
            expected_of(rows, as_written),
            plain,
            COMPRESS[packed],
        )
        for packed, compression in (("none", None), ("gzip", "gzip"))
    ]


def _confluent() -> list[Sample]:
    values = [None if n == 5 else value(n) for n in range(ROWS)]
    path = "topics/pins/partition=0/pins+0+0000000000"
    found: list[Any] = []
    union = ["null", VALUE_SCHEMA]
    for codec in AVRO_CODECS:
        layout = Confluent(format="avro", dense=True)
        found.append((f"confluent avro {codec}", avro_of(union, values, codec), layout, f"{path}.avro", as_json))
    for packed in ("none", "gzip"):
        suffix = ".gz" if packed == "gzip" else ""
        plain = b"".join(dumped(one) + b"\n" for one in values)
        content = COMPRESS[packed](plain)
        layout = Confluent(format="json", compression=packed, dense=True)
        found.append((f"confluent json {packed}", content, layout, f"{path}.json{suffix}", as_written))
        layout = Confluent(format="bytes", compression=packed, dense=True)
        found.append((f"confluent bytes {packed}", content, layout, f"{path}.bin{suffix}", dumped))
    for codec in PARQUET_CODECS:
        rows = [value(n) for n in range(ROWS)]
        content = parquet_of(pa.Table.from_pylist(rows, pa.schema(list(VALUE_TYPE))), codec)
        layout = Confluent(format="parquet", dense=True)
        found.append((f"confluent parquet {codec}", content, layout, f"{path}.parquet", as_json))
    return [
        Sample(
            name,
            content,
            read_with(layout, path),
            Columns([encode(one) for one in (values if "parquet" not in name else map(value, range(ROWS)))]),
        )
        for name, content, layout, path, encode in found
    ]


def as_written(thing: Any) -> bytes | None:
    """A value of a JSON file."""
    return None if thing is None else dumped(thing)


def envelopes() -> list[dict[str, Any]]:
    """Records as Aiven's sinks hold them; headers as pairs."""
    return [
        {
            "key": None if n % 4 == 0 else f"k{n}",
            "value": None if n == 5 else value(n),
            "offset": 100 + 2 * n,
            "timestamp": T0 + n,
            "headers": [] if n % 3 else [("trace", b"t%d" % n)],
        }
        for n in range(ROWS)
    ]


def expected_of(rows: Sequence[dict[str, Any]], encode: Callable[[Any], bytes | None]) -> Columns:
    """What a file of these rows holds."""
    return Columns(
        [encode(row["value"]) for row in rows],
        [row["offset"] for row in rows],
        [None if row["key"] is None else row["key"].encode() for row in rows],
        [row["timestamp"] for row in rows],
        [tuple(row["headers"]) for row in rows],
    )


def csv_of(rows: Sequence[dict[str, Any]], fields: Sequence[str] = FIELDS) -> bytes:
    """Lines as PlainOutputStreamWriter writes them."""

    def cell(row: dict[str, Any], name: str) -> bytes:
        found = row[name]
        if name == "headers":
            return b"".join(base64.b64encode(k.encode()) + b":" + base64.b64encode(v) + b";" for k, v in found)
        if name in {"offset", "timestamp"}:
            return b"%d" % found
        return b"" if found is None else base64.b64encode(found.encode() if isinstance(found, str) else dumped(found))

    return b"\n".join(b",".join(cell(row, name) for name in fields) for row in rows)


def json_row(row: dict[str, Any], fields: Sequence[str] = FIELDS) -> bytes:
    """An object as AbstractJsonOutputStreamWriter writes it."""
    seconds, millis = divmod(row["timestamp"], 1000)
    shown = {
        **row,
        "timestamp": f"{instant(seconds)}.{millis:03d}Z",
        "headers": [{"key": name, "value": content.decode()} for name, content in row["headers"]],
    }
    return dumped({name: shown[name] for name in fields})


def instant(seconds: int) -> str:
    """Seconds since the epoch as DateTimeFormatter.ISO_INSTANT prints them."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def _aiven() -> list[Sample]:
    rows = envelopes()
    mapped = [{**row, "headers": dict(row["headers"])} for row in rows]
    found: list[Any] = []
    for packed, compress in COMPRESS.items():
        found += [
            ("csv", packed, csv_of(rows), compress, as_written),
            ("jsonl", packed, b"\n".join(map(json_row, rows)), compress, as_written),
            ("json", packed, b"[\n" + b",\n".join(map(json_row, rows)) + b"\n]", compress, as_written),
            ("avro", packed, avro_of(ENVELOPE_SCHEMA, mapped), compress, as_json),
        ]
    for codec in PARQUET_CODECS:
        table = pa.Table.from_pylist([{**row, "headers": list(row["headers"])} for row in rows], ENVELOPE_TYPE)
        found.append(("parquet", codec, parquet_of(table, codec), bytes, as_json))
    return [
        Sample(
            f"aiven {kind} {packed}",
            pack(plain),
            read_with(Aiven(format=kind, fields=FIELDS, compression=packed), "pins-0-100"),
            expected_of(rows, encode),
            plain,
            pack,
        )
        for kind, packed, plain, pack, encode in found
    ]


def _java() -> list[Sample]:
    folder = Path(__file__).parent / "data" / "connect"
    found: list[Any] = [
        (path, *path.name.split("-")) for path in sorted(folder.iterdir()) if not path.suffix and path.is_file()
    ]
    return [
        Sample(
            f"java {path.name}",
            path.read_bytes(),
            read_with(
                Aiven(format=kind, fields=FIELDS, compression=codec if kind == "jsonl" else "none"), "pins-0-100"
            ),
            expected_of(envelopes(), as_written if kind == "jsonl" else as_json),
        )
        for path, kind, codec in found
    ]
