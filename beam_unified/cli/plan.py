"""`beam-unified plan`: what a read would take, before it is begun."""

from collections.abc import Sequence

import click

from beam_unified.archive.archive import Archive
from beam_unified.cli import exits
from beam_unified.cli.output import Row, output_option, progress, show
from beam_unified.cli.ranges import chosen, partition_option, prefer_option, resolved, start_option, stop_option
from beam_unified.cli.settings import Stores, store_options
from beam_unified.inspection.planning import PartitionPlan, Prices, plan
from beam_unified.inspection.survey import survey
from beam_unified.reading.choice import Prefer

_PRICES = Prices()


@click.command("plan")
@click.argument("topic")
@partition_option
@start_option
@stop_option
@prefer_option
@click.option(
    "--get-price", type=click.FloatRange(0), default=_PRICES.per_thousand_gets, show_default=True, help="Of 1,000 GETs."
)
@click.option(
    "--list-price",
    type=click.FloatRange(0),
    default=_PRICES.per_thousand_lists,
    show_default=True,
    help="Of 1,000 LISTs.",
)
@output_option
@store_options
def command(
    stores: Stores,
    topic: str,
    *,
    partition: Sequence[int],
    start: str,
    stop: str,
    prefer: Prefer,
    get_price: float,
    list_price: float,
    output: str,
) -> int:
    """What a read from start to stop would read from where: offsets, files, bytes, requests, and what brokers would send.

    Files and bytes of the archive are exact. Of Kafka, records are at most its offsets, and bytes are estimated from the first
    thousand records, uncompressed. Nothing is read twice: the plan is what `cat` and ReadUnified do.
    """
    prices = Prices(per_thousand_gets=get_price, per_thousand_lists=list_price)
    storage = stores.archive.storage() if isinstance(stores.archive, Archive) else None
    plans = list[PartitionPlan]()
    with stores.connected() as (log, archive), progress("planning") as advance:
        if archive is not None:
            archive.check(topic, isolation_level=stores.kafka.isolation_level, must_exist=False)
        ranges = dict(resolved(chosen(topic, partition, log), start, stop, log, archive))
        for found in survey(topic, log, archive, [tp.partition for tp in ranges]):
            plans.append(
                plan(
                    found, ranges[found.tp], storage=storage, kafka=log, isolation_level=stores.kafka.isolation_level, prefer=prefer
                )
            )  # fmt: skip
            advance(len(plans), len(ranges))
    rows = [_row(one, prices) for one in plans]
    show(rows if output == "json" or len(rows) == 1 else [*rows, _total(rows)], output)
    return exits.DATA_LOSS if any(one.gaps for one in plans) else exits.DONE


_ADDED = (
    "flushes",
    "files",
    "archive_bytes",
    "archive_records",
    "gets",
    "lists",
    "cost",
    "kafka_offsets",
    "kafka_bytes",
)


def _row(one: PartitionPlan, prices: Prices) -> Row:
    return {
        "partition": one.tp.partition,
        "offsets": one.offsets,
        "flushes": one.flushes,
        "files": one.files,
        "archive_bytes": one.archive_bytes,
        "archive_records": one.archive_records,
        "gets": one.gets,
        "lists": one.lists,
        "cost": one.cost(prices),
        "kafka_offsets": one.kafka_offsets,
        "kafka_bytes": one.kafka_bytes,
        "gaps": list(one.gaps),
    }


def _total(rows: Sequence[Row]) -> Row:
    added = {name: sum(row[name] for row in rows) for name in _ADDED}
    return {
        **rows[0],
        **added,
        "partition": "all",
        "offsets": None,
        "gaps": [gap for row in rows for gap in row["gaps"]],
    }
