"""`beam-unified positions`: where the parts of a log are."""

from collections.abc import Iterator, Sequence

import click

from beam_unified.cli import exits
from beam_unified.cli.output import Row, output_option, show
from beam_unified.cli.ranges import chosen, partition_option
from beam_unified.cli.settings import Stores, store_options
from beam_unified.inspection.survey import PartitionSurvey, survey


@click.command("positions")
@click.argument("topics", nargs=-1, required=True, metavar="TOPIC...")
@partition_option
@output_option
@store_options
def command(stores: Stores, topics: Sequence[str], partition: Sequence[int], output: str) -> int:
    """What the archive and Kafka hold of each partition; where a reader hands over; what is missing; what is not archived yet."""
    gaps = 0

    def rows() -> Iterator[Row]:
        nonlocal gaps
        with stores.connected() as (log, archive):
            for topic in topics:
                numbers = [tp.partition for tp in chosen(topic, partition, log)]
                if archive is not None:
                    archive.check(topic, isolation_level=stores.kafka.isolation_level, must_exist=False)
                for found in survey(topic, log, archive, numbers):
                    gaps += len(found.gaps)
                    yield _row(found)

    show(rows(), output)
    return exits.DATA_LOSS if gaps else exits.DONE


def _row(found: PartitionSurvey) -> Row:
    return {
        "topic": found.tp.topic,
        "partition": found.tp.partition,
        "archive": found.archived,
        "flushes": len(found.index),
        "archived_until_ms": found.newest_archived_ms,
        "kafka": found.held,
        "handoff": found.handoff,
        "gaps": list(found.gaps),
        "lag": found.lag,
    }
