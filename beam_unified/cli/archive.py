"""`beam-unified archive`: Kafka to the archive, exactly once, in this process and without Beam.

The same archiver as `ArchiveTopic`, driven from a loop: for a backfill, a small topic, or where no runner is at hand. What it had
not committed when it ends, by Ctrl-C or a kill, is read again by the next one, wherever that runs.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click

from beam_unified.archive.archive import Archive
from beam_unified.archive.storage import creates_exclusively
from beam_unified.archiver.announcements import KafkaCommitTopic
from beam_unified.archiver.archiver import ArchiverRules, Nobody, PartitionArchiver
from beam_unified.archiver.planning import FlushLimits
from beam_unified.archiver.pool import Working
from beam_unified.cli.output import to_json
from beam_unified.cli.ranges import chosen, partition_option, resolved, start_option, stop_option
from beam_unified.cli.settings import Stores, store_options
from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.errors import ConfigError
from beam_unified.flushes import Flush
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.positions import duration_ms

_LIMITS = FlushLimits()
_UPLOADS = 2
_WAIT_MS = 100  # of a partition that has nothing to do, while no other has


@click.command("archive")
@click.argument("topic")
@partition_option
@start_option
@stop_option
@click.option("--follow", is_flag=True, help="Go on with what comes. Ctrl-C ends it.")
@click.option(
    "--flush-records", type=click.IntRange(1), default=_LIMITS.records, show_default=True, help="A flush is due then,"
)
@click.option(
    "--flush-bytes", type=click.IntRange(1), default=_LIMITS.size_bytes, show_default=True, help="... or then,"
)
@click.option("--flush-interval", default="10m", show_default=True, metavar="DURATION", help="... or then.")
@click.option(
    "--on-gap", type=click.Choice(["fail", "skip"]), default="fail", show_default=True, help="What Kafka forgot."
)
@click.option("--notify", metavar="TOPIC", help="Announce every commit on this topic.")
@click.option(
    "--output", "-o", type=click.Choice(["text", "json"]), default="text", show_default=True, help="A line a flush."
)
@store_options
def command(stores: Stores, topic: str, partition: Sequence[int], start: str, stop: str, **how: Any) -> None:
    """Archive a topic up to the end of its log as it is now, or for ever with --follow; write a line for each committed flush.

    An archive that holds a partition already is continued where its commits end, whatever --start says.
    """
    archive = stores.real_archive("archive")
    if not creates_exclusively(archive.root):
        raise ConfigError(f"archive {archive.root}: exactly-once archiving needs s3://, gs:// or a local folder.")
    if how["follow"] and stop != "end":
        raise click.UsageError("--follow goes on for ever: it takes no --stop.")
    age = timedelta(milliseconds=duration_ms(how["flush_interval"], "--flush-interval"))
    if not age:
        raise click.UsageError("--flush-interval must be longer than 0.")
    job = _Job(
        stores=stores,
        archive=archive,
        rules=ArchiverRules(
            limits=FlushLimits(records=how["flush_records"], size_bytes=how["flush_bytes"], age=age),
            on_gap=how["on_gap"],
            isolation_level=stores.kafka.isolation_level,
        ),
        notify=how["notify"],
    )
    with ExitStack() as stack:
        for tp, flush in job.run(stack, topic, partition, start, stop, follow=how["follow"]):
            line = {"topic": tp.topic, "partition": tp.partition, "offsets": OffsetRange(flush.start, flush.stop)}
            click.echo(to_json(line) if how["output"] == "json" else f"{tp} {line['offsets']}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    stores: Stores
    archive: Archive
    rules: ArchiverRules
    notify: str | None

    def run(
        self, stack: ExitStack, topic: str, partitions: Sequence[int], start: str, stop: str, *, follow: bool
    ) -> Iterator[tuple[TopicPartition, Flush]]:
        """The flushes, as they are committed. Partitions take turns; uploads run in threads beside them."""
        log = self.stores.kafka.connect()
        stack.callback(log.close)
        there = self.archive.connect()
        stack.callback(there.close)
        there.check(topic, isolation_level=self.stores.kafka.isolation_level, must_exist=False)
        executor = stack.enter_context(ThreadPoolExecutor(_UPLOADS))
        active = dict[TopicPartition, tuple[Working, int | None]]()
        for tp, offsets in resolved(chosen(topic, partitions, log), start, stop, log, None):
            working = self._working(tp, offsets.start, there.index(tp).stop or 0, executor)
            stack.callback(working.close)
            active[tp] = working, None if follow else offsets.stop
        idle = False
        while active:
            wait_ms, idle = _WAIT_MS // len(active) if idle else 0, True
            for tp, (working, until) in list(active.items()):
                idle = not working.advance(until, wait_ms) and idle
                if not working.busy:
                    yield from ((tp, flush) for flush in _committed(working))
                    if until is not None and working.archiver.done(until):
                        del active[tp]

    def _working(self, tp: TopicPartition, first: int, archived: int, executor: ThreadPoolExecutor) -> Working:
        kafka = self.stores.real_kafka("archive --notify") if self.notify else None
        announcer = (
            Nobody()
            if kafka is None or self.notify is None
            else KafkaCommitTopic(kafka=kafka, topic=self.notify).connect()
        )
        archiver = PartitionArchiver(
            tp,
            self.archive.storage(),
            self.stores.kafka.connect(),
            announcer=announcer,
            rules=self.rules,
            clock=SYSTEM_CLOCK,
            first=first,
        )
        return Working(archiver, archived, executor)


def _committed(working: Working) -> Sequence[Flush]:
    """Those that are new; told once."""
    found = working.archiver.committed(working.offset)
    if found:
        working.offset = found[-1].stop
    return found
