"""Digests of what a read gave, a partition each: whether two reads gave the same, to the byte, order and event time (R9).

    records | PartitionDigests()   ->   PartitionDigest(topic, partition, records, first offset, last offset, sha256, ..)

A digest is a function of the set of (offset, record, event time) alone: not of bundles, splits, windows or the runner.
Beam promises no order behind a shuffle, so order is put in again by offset: a block of 65,536 offsets is sorted and hashed
by itself and the blocks are hashed in turn, which keeps the memory of a worker bounded.

What that leaves out is told apart. A record that came twice is counted, and changes the digest. A record that came after a
later one of its partition is counted where that shows, within a bundle: behind an ordered read it must not happen, however
bundles are cut; the number itself depends on them and is no part of the digest.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.pvalue import PCollection
from apache_beam.transforms.window import GlobalWindows
from apache_beam.typehints.typehints import is_consistent_with

from beam_unified.errors import ConfigError
from beam_unified.records import Record

_BLOCK_OFFSETS = 65_536
_ENTRY = struct.Struct(">Q32s?")  # offset, digest of the record, whether it came after a later one
_NUMBER = struct.Struct(">q")

_Key = tuple[str, int]
_BlockKey = tuple[str, int, int]


class PartitionDigest(NamedTuple):
    """What was read of one partition.

    Attributes:
        topic: Name of the topic.
        partition: Number of the partition.
        records: How many, repeats included.
        first_offset: Smallest offset.
        last_offset: Largest offset.
        sha256: Over every record by offset: offset, event time, Kafka's timestamp and its type, key, value, headers.
        duplicates: How many came again, with an offset that was there already.
        disordered: How many came after a later one, as far as bundles show it; see the module.
    """

    topic: str
    partition: int
    records: int
    first_offset: int
    last_offset: int
    sha256: str
    duplicates: int
    disordered: int


class PartitionDigests(beam.PTransform):
    """Records -> one `PartitionDigest` a partition.

    Put it right behind `ReadUnified(..., output="record")` with a stop: without one nothing comes out. Event times count in
    whole milliseconds, since runners carry no more.

    Raises:
        ConfigError: for elements that are not records; on a worker where their type is not declared.
    """

    def expand(self, records: PCollection) -> PCollection:
        """Records -> entries -> blocks -> partitions."""
        if not is_consistent_with(records.element_type, Record):
            raise _not_records(records.element_type)
        return (
            records
            | "One window" >> beam.WindowInto(GlobalWindows())
            | "Entries" >> beam.ParDo(_Entries()).with_output_types(tuple[_BlockKey, bytes])
            | "Blocks" >> beam.CombinePerKey(_Fold(_block))
            | "By partition" >> beam.MapTuple(_by_partition)
            | "Partitions" >> beam.CombinePerKey(_Fold(list))
            | "Digests" >> beam.MapTuple(_partition).with_output_types(PartitionDigest)
        )


def digests_of(records: Iterable[tuple[Record, int]]) -> list[PartitionDigest]:
    """The same without Beam: of (record, event time in microseconds) as they came. Sorted by topic and partition."""
    blocks: dict[_BlockKey, list[bytes]] = {}
    for key, entry in _entries(records, {}):
        blocks.setdefault(key, []).append(entry)
    partitions: dict[_Key, list[_Block]] = {}
    for key, entries in blocks.items():
        partition, block = _by_partition(key, _block(entries))
        partitions.setdefault(partition, []).append(block)
    return sorted(_partition(key, found) for key, found in partitions.items())


def assert_same_digests(actual: Iterable[PartitionDigest], expected: Iterable[PartitionDigest]) -> None:
    """Whether two reads gave the same.

    Raises:
        AssertionError: naming every partition that differs, and how; or that holds a record twice.
    """
    one, other = _by_name(actual), _by_name(expected)
    wrong = [f"{name} was not read" for name in sorted(other.keys() - one.keys())]
    wrong += [f"{name} was not expected" for name in sorted(one.keys() - other.keys())]
    for name in sorted(one.keys() & other.keys()):
        differing = [
            f"{field} is {found!r}, expected {wanted!r}"
            for field, found, wanted in zip(PartitionDigest._fields, one[name], other[name], strict=True)
            if found != wanted and field != "disordered"
        ]
        if differing:
            wrong.append(f"{name}: {'; '.join(differing)}")
        elif one[name].duplicates:
            wrong.append(f"{name}: {one[name].duplicates} records came twice, in both")
    if wrong:
        raise AssertionError("; ".join(wrong))


def same_digests(expected: Iterable[PartitionDigest]) -> Callable[[Iterable[PartitionDigest]], None]:
    """A check for Beam's own `assert_that`, of digests as they come out of a pipeline."""
    wanted = list(expected)
    return lambda actual: assert_same_digests(actual, wanted)


def _not_records(found: object) -> ConfigError:
    return ConfigError(f"PartitionDigests takes records, got {found}: read with output='record'.")


class _Block(NamedTuple):
    """What was read of a block of offsets."""

    number: int
    records: int
    first_offset: int
    last_offset: int
    duplicates: int
    disordered: int
    sha256: bytes


class _Entries(beam.DoFn):
    """Record -> (block, entry)."""

    def start_bundle(self) -> None:
        """Order shows within a bundle."""
        self._last: dict[_Key, int] = {}

    def process(self, record: Record, timestamp=beam.DoFn.TimestampParam) -> Iterator[tuple[_BlockKey, bytes]]:  # type: ignore[no-untyped-def]
        """One record."""
        if not isinstance(record, Record):
            raise ConfigError(
                f"PartitionDigests takes records, got {type(record).__name__}: read with output='record'."
            )
        return _entries([(record, timestamp.micros)], self._last)


class _Fold(beam.CombineFn):
    """Collects, and folds at the end."""

    def __init__(self, fold: Callable[[list], object]) -> None:  # type: ignore[type-arg]
        self._fold = fold

    def create_accumulator(self) -> list[object]:
        """Nothing yet."""
        return []

    def add_input(self, accumulator: list[object], element: object) -> list[object]:
        """One more."""
        accumulator.append(element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list[object]]) -> list[object]:
        """In any order: the fold sorts."""
        return [element for accumulator in accumulators for element in accumulator]

    def extract_output(self, accumulator: list[object]) -> object:
        """The fold."""
        return self._fold(accumulator)


def _entries(records: Iterable[tuple[Record, int]], last: dict[_Key, int]) -> Iterator[tuple[_BlockKey, bytes]]:
    """Records as they come; `last` is the largest offset so far of each partition, and is kept up to date."""
    for record, micros in records:
        partition, offset = (record.topic, record.partition), record.offset
        before = last.get(partition, -1)
        last[partition] = max(before, offset)
        entry = _ENTRY.pack(offset, hashlib.sha256(_encoded(record, micros)).digest(), offset < before)
        yield (*partition, offset // _BLOCK_OFFSETS), entry


def _encoded(record: Record, micros: int) -> bytes:
    """A record and its event time, each in one way only; wherever the record was read."""
    milliseconds = abs(micros) // 1_000 * (-1 if micros < 0 else 1)  # towards 0, as Beam cuts on the way
    kind = record.timestamp_type
    fields = [
        _NUMBER.pack(record.offset),
        _NUMBER.pack(milliseconds),
        _field(None if record.timestamp is None else _NUMBER.pack(record.timestamp)),
        _field(None if kind is None else _NUMBER.pack(kind.value)),
        _field(record.key),
        _field(record.value),
        _NUMBER.pack(len(record.headers)),
    ]
    for name, value in record.headers:
        fields += [_field(name.encode("utf-8", "surrogatepass")), _field(value)]
    return b"".join(fields)


def _field(content: bytes | None) -> bytes:
    return b"\0" if content is None else b"\1" + _NUMBER.pack(len(content)) + content


def _block(entries: list[bytes]) -> _Block:
    """Entries of one block, in any order."""
    digest, before, duplicates, disordered = hashlib.sha256(), None, 0, 0
    ordered = sorted(entries)
    for entry in ordered:
        offset, record, came_after = _ENTRY.unpack(entry)
        digest.update(record)
        duplicates += offset == before
        disordered += came_after
        before = offset
    first, last = (_ENTRY.unpack(entry)[0] for entry in (ordered[0], ordered[-1]))
    return _Block(first // _BLOCK_OFFSETS, len(entries), first, last, duplicates, disordered, digest.digest())


def _by_partition(key: _BlockKey, block: _Block) -> tuple[_Key, _Block]:
    topic, partition, _ = key
    return (topic, partition), block


def _partition(key: _Key, blocks: list[_Block]) -> PartitionDigest:
    """Blocks of one partition, in any order."""
    ordered = sorted(_Block(*block) for block in blocks)
    digest = hashlib.sha256()
    for block in ordered:
        digest.update(_NUMBER.pack(block.number) + block.sha256)
    return PartitionDigest(
        *key,
        records=sum(block.records for block in ordered),
        first_offset=ordered[0].first_offset,
        last_offset=ordered[-1].last_offset,
        sha256=digest.hexdigest(),
        duplicates=sum(block.duplicates for block in ordered),
        disordered=sum(block.disordered for block in ordered),
    )


def _by_name(digests: Iterable[PartitionDigest]) -> dict[str, PartitionDigest]:
    return {f"{one.topic}[{one.partition}]": one for one in (PartitionDigest(*found) for found in digests)}
