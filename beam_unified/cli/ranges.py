"""Which part of which partitions a command is about: `--partition`, `--start`, `--stop`, `--prefer`."""

from collections.abc import Iterator, Sequence

import click

from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.errors import ConfigError
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.position_text import parse_start, parse_stop
from beam_unified.positions import (
    AtOffsets,
    Latest,
    TopicStart,
    TopicStop,
    check_order,
    pin_start,
    pin_stop,
    start_of,
    stop_of,
)
from beam_unified.reading.resolve import StopBefore, resolve_start, resolve_stop
from beam_unified.stores import ArchiveLog, KafkaLog

partition_option = click.option(
    "--partition", "-p", type=click.IntRange(0), multiple=True, help="Only this one. Repeatable."
)
start_option = click.option(
    "--start", "-s", default="earliest", show_default=True, metavar="POSITION",
    help="earliest, latest, 7d (before now), 2026-11-16T00:00:00Z, an offset, or 0:42,1:17.",
)  # fmt: skip
stop_option = click.option(
    "--stop", "-e", default="end", show_default=True, metavar="POSITION",
    help="Not to be reached: end (of the log as it is now), now, 7d, an instant, an offset, or 0:42,1:17.",
)  # fmt: skip
prefer_option = click.option(
    "--prefer",
    type=click.Choice(["archive", "kafka"]),
    default="archive",
    show_default=True,
    help="Where both have it.",
)


def chosen(topic: str, partitions: Sequence[int], kafka: KafkaLog) -> tuple[TopicPartition, ...]:
    """The partitions that were asked for, or all. Raises click.UsageError, StoreError."""
    there = kafka.partitions(topic)
    if unknown := sorted(set(partitions) - set(there)):
        raise click.UsageError(f"topic {topic!r} has partitions {min(there)} to {max(there)}, not {unknown[0]}.")
    return tuple(TopicPartition(topic, number) for number in (sorted(set(partitions)) or there))


def resolved(
    tps: Sequence[TopicPartition], start: str, stop: str, kafka: KafkaLog, archive: ArchiveLog | None
) -> Iterator[tuple[TopicPartition, OffsetRange]]:
    """The range of each partition, as of now.

    Raises:
        ConfigError: text that is no position; a partition that is not named; a stop that is still to come.
    """
    now_ms, numbers = SYSTEM_CLOCK.now_ms(), [tp.partition for tp in tps]
    first = start_of(pin_start(parse_start(_every(start, numbers), "--start"), now_ms), tps[0].topic)
    last: TopicStop | Latest = Latest()
    if stop != "end":
        pinned = pin_stop(parse_stop(_every(stop, numbers), "--stop"), now_ms)
        check_order(first, pinned)
        last = stop_of(pinned, tps[0].topic)
    for tp in tps:
        begin = resolve_start(_named(first, tp, "--start"), tp, kafka, archive)
        yield tp, OffsetRange(begin, max(begin, _stop(last, tp, kafka, archive, now_ms)))


def _stop(
    stop: TopicStop | Latest, tp: TopicPartition, kafka: KafkaLog, archive: ArchiveLog | None, now_ms: int
) -> int:
    if isinstance(stop, Latest):
        return resolve_start(stop, tp, kafka, archive)
    if isinstance(stop, AtOffsets):
        _named(stop, tp, "--stop")
    found = resolve_stop(stop, tp, kafka, archive, now_ms=now_ms)
    if isinstance(found, StopBefore):
        raise ConfigError(f"--stop {stop} is still to come: read with --follow, and stop with Ctrl-C.")
    return found


def _every(text: str, partitions: Sequence[int]) -> str:
    """A bare offset is meant for every partition that was asked for."""
    return ",".join(f"{number}:{text}" for number in partitions) if text.isdecimal() else text


def _named(position: TopicStart, tp: TopicPartition, option: str) -> TopicStart:
    if isinstance(position, AtOffsets) and position.get(tp.partition) is None:
        raise ConfigError(
            f"{option} names no offset for partition {tp.partition}: name it, or leave it out with --partition."
        )
    return position
