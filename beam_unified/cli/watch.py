"""`beam-unified watch`: a sync group, live: watermarks, phases, rates, and what holds whom (docs/synchronisation.md)."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack

import click
from rich.live import Live

from beam_unified.cli.output import Row, console, output_option, show, table
from beam_unified.cli.settings import Stores, store_options
from beam_unified.clock import SYSTEM_CLOCK
from beam_unified.inspection.sync_log import MemberState, SyncLog
from beam_unified.kafka.sync_topic import KafkaSyncTopic
from beam_unified.positions import duration_ms

run_option = click.option("--run", "run_id", metavar="RUN", help="Run of the group. [default: the one that spoke last]")
sync_topic_option = click.option(
    "--sync-topic",
    envvar="BEAM_UNIFIED_SYNC_TOPIC",
    metavar="TOPIC",
    help="Topic of the group, unless it is the default.",
)


@click.command("watch")
@click.argument("group")
@run_option
@sync_topic_option
@click.option("--interval", default="1s", show_default=True, metavar="DURATION", help="Between two looks.")
@click.option("--once", is_flag=True, help="One look, then end.")
@output_option
@store_options
def command(
    stores: Stores, group: str, run_id: str | None, *, sync_topic: str | None, interval: str, once: bool, output: str
) -> None:
    """What every reader of GROUP is doing: watermark, position, offsets a second, what holds it and whom it waits for.

    Reads the group's topic, and writes nothing to it. Rates are over the last ten seconds of a reader's reports.
    """
    interval_s = duration_ms(interval, "--interval") / 1_000
    with ExitStack() as stack:
        kafka = stores.kafka.connect()
        stack.callback(kafka.close)
        log = SyncLog(kafka, sync_topic_of(stores, group, sync_topic), group)
        log.read_to_end()
        run = log.run(run_id)
        if once:
            show(_rows(log, run), output)
            return
        live = None
        if output == "table" and sys.stdout.isatty():
            live = stack.enter_context(Live(console=console(), auto_refresh=False, transient=False))
        while True:
            rows = _rows(log, run)
            if live is None:
                show(rows, output)
                sys.stdout.flush()
            else:
                live.update(table(rows), refresh=True)
            until = SYSTEM_CLOCK.monotonic() + interval_s
            while (left := until - SYSTEM_CLOCK.monotonic()) > 0:
                log.read(timeout_ms=min(250, int(left * 1_000) + 1))


def sync_topic_of(stores: Stores, group: str, given: str | None) -> str:
    """Name of the group's topic: as given, as configured, or what `KafkaSyncTopic` makes of the group's name."""
    return given or stores.sync_topic or KafkaSyncTopic(kafka=stores.real_kafka("a sync group")).topic_of(group)


def _rows(log: SyncLog, run: str) -> Sequence[Row]:
    return [_row(run, one) for one in log.members(run)]


def _row(run: str, one: MemberState) -> Row:
    report, limit = one.report, one.limit
    return {
        "run": run,
        "topic": report.member.topic,
        "partition": report.member.partition,
        "phase": report.phase.value,
        "watermark_ms": None if report.watermark is None else report.watermark // 1_000,
        "position": report.position,
        "offsets_per_s": None if one.offsets_per_s is None else round(one.offsets_per_s, 1),
        "held_by": one.held_by,
        "waits_for": one.waits_for,
        "limit_records_per_s": None if limit is None else limit.records_per_s,
        "limit_bytes_per_s": None if limit is None else limit.bytes_per_s,
        "silent_s": one.silent_ms / 1_000,
    }
