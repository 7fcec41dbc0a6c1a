"""Readers of the formats of other tools: valid files, what is cut short, and files made to fill the memory or the stack."""

import bz2
import gzip
import io
import lzma
import multiprocessing
import resource
import zlib
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.archive.foreign import sequence_file
from beam_unified.archive.foreign.aiven import Aiven
from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.columns import Columns
from beam_unified.archive.foreign.confluent import Confluent
from beam_unified.archive.foreign.formats import avro, csv_lines, delimited, json_text, parquet, parquet_thrift
from beam_unified.archive.foreign.formats.encoding import as_json, as_text, from_base64
from beam_unified.archive.foreign.formats.streams import MAX_RECORD_BYTES
from beam_unified.errors import ArchiveUnavailableError
from tests import foreign_samples, fuzz
from tests.foreign_samples import COMPRESS, SYNC, as_lists, avro_of, framed, joined, one_avro, read_with

SAMPLES = {sample.name: sample for sample in foreign_samples.samples()}
LINES = {"aiven csv none", "aiven jsonl none", "lenses none"}
NODE = {"type": "record", "name": "Node", "fields": [{"name": "next", "type": ["null", "Node"]}]}
MiB = 1024 * 1024


def listed(batches):
    return [one for batch in batches for one in batch]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_format_is_read(name):
    """A3: every key, value, offset, timestamp and header, in order; what the file does not hold is None."""
    sample = SAMPLES[name]
    assert joined(sample.read(sample.content)) == as_lists(sample.expected)


@pytest.mark.parametrize("name", [name for name in SAMPLES if name not in LINES])
def test_a_file_that_is_cut_short_is_an_error(name):
    """B2: one byte less is an error, not a shorter file. In lines that need not end a cut may not show."""
    sample = SAMPLES[name]
    with pytest.raises(BadFileError):
        sample.read(sample.content[:-1])


def test_a_file_that_ends_before_its_listed_size_is_an_error():
    """B2: what the storage gave is compared with what it had listed."""
    for read, content in ((json_text.read, b"1\n2\n"), (delimited.read, b"1\n2\n"), (csv_lines.read, b"1\n2")):
        with pytest.raises(BadFileError, match="byte"):
            list(read(io.BytesIO(content[:2]), len(content), lambda text: text))


@pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "zstd"])
def test_errors_of_the_storage_pass(compression):
    """B2: a network that fails is not a damaged file."""

    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() >= 100:
                raise ArchiveUnavailableError("no answer")
            return super().read(min(size, 50))

    lines = b"\n".join(b"%d" % (n * n * n) for n in range(500))
    for read, plain in (
        (json_text.read, lines),
        (csv_lines.read, lines),
        (avro.read, avro_of("string", lines.decode().split())),
    ):
        content = COMPRESS[compression](plain)
        with pytest.raises(ArchiveUnavailableError):
            list(read(Failing(content), len(content), lambda value: value, compression=compression))


@given(
    st.lists(
        st.binary(max_size=20).filter(lambda value: b"||" not in value + b"|" and not value.startswith(b"|")),
        max_size=50,
    ),
    st.sampled_from(["none", "gzip"]),
)
def test_delimited_values_come_back(values, packed):
    """A3: a separator of several bytes, after each value."""
    content = COMPRESS[packed](b"".join(value + b"||" for value in values))
    found = listed(delimited.read(io.BytesIO(content), len(content), bytes, separator=b"||", compression=packed))
    assert found == values


@given(st.lists(st.integers(0, 2_000_000), max_size=4), st.data())
def test_records_are_cut_the_same_wherever_reads_end(lengths, data):
    """A3: a record may be larger than what is read at once."""
    values = [b"x" * length for length in lengths]
    content = b"".join(value + b"\r\n" for value in values)

    class Short(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, data.draw(st.sampled_from([700_001, MiB]))))

    assert listed(delimited.read(Short(content), len(content), bytes, separator=b"\r\n")) == values


def test_gzip_of_several_members_is_read_whole():
    """A3: appended gzip files are one."""
    content = gzip.compress(b"1\n") + gzip.compress(b"2\n")
    assert listed(json_text.read(io.BytesIO(content), len(content), bytes, compression="gzip")) == [b"1", b"2"]


def test_a_block_of_avro_is_what_it_claims():
    """B2: as many values as bytes, and of those bytes the checksum."""
    two = one_avro("long", 1) + one_avro("long", 2)
    wrong = pa.compress(two, codec="snappy", asbytes=True)
    for content, match in (
        (framed("long", two, 1, "null"), "more than its 1 records"),
        (framed("long", two, 3, "null"), "claims 3 records"),
        (framed("long", two, 2, "snappy", lambda _: wrong + b"crc!"), "checksum"),
    ):
        with pytest.raises(BadFileError, match=match):
            listed(avro.read(io.BytesIO(content), len(content), lambda value: value))


@pytest.mark.parametrize("line", [b"MQ==", b"MQ==,5,6", b"MQ==,", b"MQ==,five", b"1,5"])
def test_a_line_of_csv_is_as_described(line):
    """B2: as many fields, numbers where numbers are, base64 where that is."""
    with pytest.raises(BadFileError, match="record 0"):
        read_with(Aiven(format="csv", fields=("value", "offset")), "t-0-5")(line)


# -- values that are no bytes any more


def test_json_is_left_as_it_was_written():
    """A3: neither sorted nor rounded; null is a tombstone."""
    content = b'{"b": 1.10, "a": 12345678901234567890123}\nnull\n"t"\n'
    found = read_with(Confluent(format="json", dense=True), "topics/t/partition=0/t+0+0.json")(content)
    assert found[0].values == [b'{"b": 1.10, "a": 12345678901234567890123}', None, b'"t"']


def test_other_values_become_json_or_what_the_user_says():
    """A3: the same bytes for the same value, whatever the format and the order of its fields."""
    rows = [{"id": 1, "text": "ü", "tags": ["a"]}]
    content = avro_of(foreign_samples.VALUE_SCHEMA, rows)
    path = "topics/t/partition=0/t+0+0.avro"
    assert read_with(Confluent(format="avro", dense=True), path)(content)[0].values == [
        '{"id":1,"tags":["a"],"text":"ü"}'.encode()
    ]
    own = Confluent(format="avro", dense=True, encode=lambda value: b"%d" % value["id"])
    assert read_with(own, path)(content)[0].values == [b"1"]
    with pytest.raises(BadFileError, match=r"record 0: KeyError"):
        read_with(Confluent(format="avro", dense=True, encode=lambda value: value["no"]), path)(content)


@pytest.mark.parametrize(
    ("encode", "value", "encoded"),
    [
        (as_json, "a", b'"a"'), (as_json, b"a", b"a"), (as_json, None, None),
        (as_json, {"b": b"\x00", "a": 1.5}, b'{"a":1.5,"b":"AA=="}'),
        (as_text, "ä", "ä".encode()), (as_text, 7, b"7"), (as_text, None, None),
        (from_base64, "AAE=", b"\x00\x01"), (from_base64, None, None),
    ],
)  # fmt: skip
def test_the_ways_back_to_bytes(encode, value, encoded):
    """A3: JSON, text, base64."""
    assert encode(value) == encoded


def test_strings_of_a_byte_array_converter_are_decoded():
    """A3: `from_base64` in JSON files gives Kafka's bytes."""
    layout = Aiven(format="jsonl", fields=("value", "offset"), encode=from_base64)
    (found,) = read_with(layout, "t-0-5")(b'{"value":"AAE=","offset":5}')
    assert (found.values, found.offsets) == ((b"\x00\x01",), (5,))


# -- Aiven's envelope


@pytest.mark.parametrize(
    "fields", [("value",), ("offset", "value"), ("value", "headers", "key"), ("timestamp", "value", "offset", "key")]
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_any_fields_in_any_order(kind, fields):
    """A3: what is not there is None, and the layout lacks it."""
    rows = foreign_samples.envelopes()
    content = (
        foreign_samples.csv_of(rows, fields)
        if kind == "csv"
        else b"\n".join(foreign_samples.json_row(r, fields) for r in rows)
    )
    layout = Aiven(format=kind, fields=fields, dense="offset" not in fields)
    found = joined(read_with(layout, "pins-0-100")(content))
    whole = foreign_samples.expected_of(rows, foreign_samples.as_written)
    for column, name in (
        ("values", "value"),
        ("keys", "key"),
        ("offsets", "offset"),
        ("timestamps", "timestamp"),
        ("headers", "headers"),
    ):
        assert getattr(found, column) == (getattr(whole, column) if name in fields else None), column
    assert layout.lacks == {"key", "timestamp", "headers"} - set(fields)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b'{"value":1}', "offset"), (b'{"value":1,"offset":2,"more":3}', "more"), (b'{"value":1,"offset":null}', "offset is None"),
        (b'{"value":1,"offset":-1}', "-1"), (b'{"value":1,"offset":true}', "True"),
        (b'{"value":1,"offset":9223372036854775808}', "92233"),
        (b'{"value":1,"offset":2', "record 0"), (b"[]", "record 0"), (b"", "record 0"),
    ],
)  # fmt: skip
def test_a_record_that_is_not_as_described_is_an_error(text, match):
    """B2: it names the record, and what is wrong with it."""
    with pytest.raises(BadFileError, match=match):
        read_with(Aiven(format="jsonl", fields=("value", "offset")), "t-0-5")(text)


@given(st.integers(-(2**40), 2**47))
def test_instants_are_milliseconds(millis):
    """A3: of the years that a calendar has, as Java's Instant prints them: with three digits or none."""
    if not -62_135_596_800_000 <= millis < 253_402_300_800_000:
        return
    row = {**foreign_samples.envelopes()[1], "timestamp": millis}
    layout = Aiven(format="jsonl", fields=("value", "offset", "timestamp"))
    text = foreign_samples.json_row(row, ("value", "offset", "timestamp"))
    for shown in {text, text.replace(b".000Z", b"Z")}:
        assert read_with(layout, "t-0-5")(shown)[0].timestamps == (millis,)


def test_an_array_of_json_is_whole():
    """B2: its end must be there, and nothing behind it."""
    layout = Aiven(format="json", fields=("value",), dense=True, envelope=False)
    read = read_with(layout, "t-0-5")
    assert read(b"[\n1,\n2\n]")[0].values == (b"1", b"2")
    for damaged in (b"[\n1,\n2", b"[\n1\n2\n]", b"[\n1,\n]", b"[\n1\n]\n", b"[1]", b"[\n]", b""):
        with pytest.raises(BadFileError):
            read(damaged)


# -- Confluent's files of keys and headers


def sides(keys=b'"a"\n"b"\n', headers=b'{"headers":[{"key":"h","value":"1"}]}\n{"headers":[]}\n'):
    layout = Confluent(format="json", keys="json", headers="json", dense=True)
    name = "topics/t/partition=0/t+0+0000000005"
    files = {f"{name}.json": b"1\n2\n", f"{name}.keys.json": keys, f"{name}.headers.json": headers}

    def open_file(path):
        return pa.BufferReader(files[path]), len(files[path])

    return list(layout.read(f"{name}.json", open_file))


def test_keys_and_headers_are_those_of_the_same_row():
    """A3: three files, row for row."""
    assert sides() == [Columns([b"1", b"2"], None, [b"a", b"b"], None, [(("h", b"1"),), ()])]


@pytest.mark.parametrize("keys", [b'"a"\n', b'"a"\n"b"\n"c"\n'])
def test_files_of_different_lengths_are_an_error(keys):
    """B2: of two attempts, perhaps; no record gets the key of another one."""
    with pytest.raises(BadFileError, match="keys"):
        sides(keys=keys)


def test_keys_and_headers_in_avro_and_parquet():
    """A3: in Avro they are bare, in Parquet in a record of one field."""
    name = "topics/t/partition=0/t+0+0000000005"
    header = {
        "type": "array",
        "items": {"type": "record", "name": "H", "fields": [{"name": n, "type": "string"} for n in ("key", "value")]},
    }
    table = pa.Table.from_pylist([{"key": "a"}, {"key": "b"}])
    files = {
        f"{name}.snappy.parquet": foreign_samples.parquet_of(pa.Table.from_pylist([{"n": 1}, {"n": 2}])),
        f"{name}.keys.snappy.parquet": foreign_samples.parquet_of(table),
        f"{name}.headers.avro": avro_of(header, [[{"key": "h", "value": "1"}], []]),
    }
    layout = Confluent(format="parquet", keys="parquet", headers="avro", dense=True)
    found = list(layout.read(f"{name}.snappy.parquet", lambda path: (pa.BufferReader(files[path]), len(files[path]))))
    assert found == [Columns([b'{"n":1}', b'{"n":2}'], None, [b"a", b"b"], None, [(("h", b"1"),), ()])]
    assert layout.lacks == {"timestamp"}


# -- files made to hurt

ZEROS = bytes(24 * MiB)
DEEP = {"type": "array", "items": "null"}
EMPTIES = {"type": "array", "items": {"type": "record", "name": "E", "fields": []}}
SNAPPY_HEADER = COMPRESS["snappy"](b"1")[:16]


def many(level):
    """A schema of 2**level fields in a few hundred bytes."""
    found = {"type": "record", "name": "R0", "fields": [{"name": "x", "type": "int"}]}
    for number in range(1, level):
        found = {
            "type": "record",
            "name": f"R{number}",
            "fields": [{"name": "a", "type": found}, {"name": "b", "type": f"R{number - 1}"}],
        }
    return found


def read_json(file, size, convert):
    """With values that are decoded."""
    layout = Confluent(format="json", dense=True, encode=lambda value: repr(value).encode())
    return layout.read("topics/t/partition=0/t+0+0.json", lambda _: (file, size))


def avro_bomb(codec, compress):
    return framed("bytes", one_avro("bytes", b"x"), 1, codec, lambda _: compress())


def repeated_parquet():
    """One row, a list of many equal numbers: a few hundred bytes."""
    count = 2 * MiB
    values = pa.repeat(pa.scalar(0, pa.int8()), count)
    table = pa.table({"a": pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), values)})
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def sequence_bomb(count, key, value):
    """A SequenceFile of one block of such entries, and a byte more of values where there are any."""

    def zeros(bytes_each, more=b""):
        packed = (
            zlib.compress(bytes([bytes_each]) * count)
            if more is None
            else zlib.compress(bytes(bytes_each * count) + more)
        )
        return b"\x8c" + len(packed).to_bytes(4, "big") + packed  # a vint of four bytes

    names = [f"org.apache.hadoop.io.{name}" for name in ("LongWritable", "BytesWritable", "compress.DefaultCodec")]
    long, content, codec = [bytes([len(name)]) + name.encode() for name in names]
    header = b"SEQ\x06" + long + content + b"\1\1" + codec + bytes(4) + SYNC
    block = zeros(key, None) + zeros(key) + zeros(value, None) + zeros(value, b"x" if value else b"")
    return header + b"\xff\xff\xff\xff" + SYNC + b"\x8c" + count.to_bytes(4, "big") + block


def read_sequence_file(file, size, convert):
    return sequence_file.read(file, size)


def deflated(bits):
    packer = zlib.compressobj(wbits=bits)
    return b"".join([*(packer.compress(ZEROS) for _ in range(3)), packer.flush()])


BOMBS: dict[str, Any] = {
    "gzip": lambda: (json_text.read, deflated(31), {"compression": "gzip"}),
    "gzip csv": lambda: (csv_lines.read, deflated(31), {"compression": "gzip"}),
    "zstd": lambda: (json_text.read, zstandard.compress(ZEROS) * 20, {"compression": "zstd"}),
    "snappy": lambda: (json_text.read, SNAPPY_HEADER + b"\x00\x00\x00\x06\xff\xff\xff\xff\x07\x00", {"compression": "snappy"}),
    "avro deflate": lambda: (avro.read, avro_bomb("deflate", lambda: deflated(-15)), {}),
    "avro bzip2": lambda: (avro.read, avro_bomb("bzip2", lambda: bz2.compress(ZEROS * 3)), {}),
    "avro xz": lambda: (avro.read, avro_bomb("xz", lambda: lzma.compress(ZEROS * 3, preset=0)), {}),
    "avro zstandard": lambda: (avro.read, avro_bomb("zstandard", lambda: zstandard.compress(ZEROS) * 20), {}),
    "avro nulls": lambda: (avro.read, framed(DEEP, one_avro("long", 2**50) + b"\0", 1, "null"), {}),
    "avro empty records": lambda: (avro.read, framed(EMPTIES, one_avro("long", 2**50) + b"\0", 1, "null"), {}),
    "avro values of no bytes": lambda: (avro.read, framed("null", b"", 2**50, "null"), {}),
    "avro deep": lambda: (avro.read, framed(NODE, b"\x02" * 5_000_000 + b"\0", 1, "null"), {}),
    "avro wide": lambda: (avro.read, framed(many(40), b"\0" * 100, 1, "null"), {}),
    "avro long header": lambda: (avro.read, b"Obj\x01" + one_avro("long", 2**40) + one_avro("bytes", b"k" * 40) * 10, {}),
    "avro long block": lambda: (avro.read, framed("bytes", b"", 1, "null")[:-17] + one_avro("long", 2**40), {}),
    "json deep": lambda: (read_json, b"[" * 3_000_000 + b"\n", {}),
    "sequence file of nothing": lambda: (read_sequence_file, sequence_bomb(32 * MiB, 0, 0), {}),
    "sequence file of little": lambda: (read_sequence_file, sequence_bomb(5 * MiB // 2, 8, 4), {}),
    "parquet repeated": lambda: (parquet.read, repeated_parquet(), {}),
}  # fmt: skip


def _explode(name, sender):
    resource.setrlimit(resource.RLIMIT_CPU, (20, 20))  # a bomb that goes off kills this process alone
    read, content, options = BOMBS[name]()
    foreign_samples.samples()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        for _ in read(io.BytesIO(content), len(content), lambda value: None, **options):
            pass
        sender.send(("records", "", 0))
    except Exception as error:  # noqa: BLE001 - which it is, is what is asked
        sender.send((type(error).__name__, str(error), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base))


@pytest.mark.parametrize("name", BOMBS)
def test_what_a_small_file_claims_is_not_believed(name, monkeypatch):
    """B2: bombs of compression, lengths, depths and counts are errors, and take no more than a few records of the largest size."""
    monkeypatch.setattr(parquet, "_MAX_REPEATED", MiB)  # to write 32 times as many takes a while
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_explode, args=(name, sender))
    process.start()
    sender.close()
    kind, message, kibibytes = receiver.recv()
    process.join()
    assert kind == "BadFileError", message
    assert kibibytes * 1024 < 4 * MAX_RECORD_BYTES


def _each_byte(content, sender):
    sample = SAMPLES["confluent parquet gzip"]
    for at in range(len(content) - int.from_bytes(content[-8:-4], "little") - 8, len(content)):
        damaged = bytearray(content)
        damaged[at] = (damaged[at] + 2) % 256  # of a zigzag number: the next one
        sender.send((at, *fuzz.check(sample, bytes(damaged))))
    sender.send("done")


def test_no_byte_of_a_parquet_footer_ends_the_process():
    """B2: pyarrow would, over what some of them say; see `formats.parquet_thrift`."""
    receiver, sender = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(
        target=_each_byte, args=(SAMPLES["confluent parquet gzip"].content, sender)
    )
    process.start()
    sender.close()
    found = []
    while (one := receiver.recv()) != "done":
        found.append(one)
    process.join()
    assert [one for one in found if one[1] not in {"records", "error"}] == []
    assert len(found) > 500


def test_a_page_that_claims_more_than_the_footer_is_an_error():
    """B2: before pyarrow makes room for it."""
    table = pa.table({"a": pa.array([b"x" * 100] * 40)})
    content = foreign_samples.parquet_of(table, "gzip")
    (group, *_) = parquet_thrift.groups_of(pa.BufferReader(content))
    first = group.chunks[0].first
    header = bytes(content[first : first + 5])
    assert header[:2] == b"\x15\x04"  # a dictionary's page; then its size
    assert header[2:3] == b"\x15"
    damaged = content[: first + 3] + b"\xfe\x7f" + content[first + 5 :]
    with pytest.raises(BadFileError, match="claims more than its column has"):
        list(parquet.read(pa.BufferReader(damaged), len(damaged), lambda row: row))
