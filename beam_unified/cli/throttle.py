"""`beam-unified throttle`: the rate limit of a topic in a running job of a sync group."""

import click

from beam_unified.cli.settings import Stores, store_options
from beam_unified.cli.watch import run_option, sync_topic_of, sync_topic_option
from beam_unified.inspection.sync_log import SyncLog
from beam_unified.kafka.sync_topic import KafkaSyncTopic, set_rate_limit
from beam_unified.sync.reports import RateLimit


@click.command("throttle")
@click.argument("group")
@click.argument("topic")
@click.option("--records", type=float, metavar="N", help="Records a second, over all workers.")
@click.option("--bytes", "size", type=float, metavar="N", help="Bytes of keys and values a second, over all workers.")
@click.option("--unlimited", is_flag=True, help="No limit any more.")
@run_option
@sync_topic_option
@store_options
def command(
    stores: Stores,
    group: str,
    topic: str,
    *,
    records: float | None,
    size: float | None,
    unlimited: bool,
    run_id: str | None,
    sync_topic: str | None,
) -> None:
    """Set the rate limit of TOPIC in GROUP while its job runs; comes back when the log has it.

    Every worker obeys within two report intervals. It holds until it is changed again, through restarts of the run, too.
    """
    if unlimited == (records is not None or size is not None):
        raise click.UsageError("give --records, --bytes or both, or --unlimited.")
    source = KafkaSyncTopic(kafka=stores.real_kafka("throttle"), topic=sync_topic_of(stores, group, sync_topic))
    kafka = stores.kafka.connect()
    try:
        log = SyncLog(kafka, source.topic, group)  # looks first: joining a log would create its topic
        log.read_to_end()
        run = log.run(run_id)
    finally:
        kafka.close()
    set_rate_limit(source, topic, RateLimit(records_per_s=records, bytes_per_s=size), group=group, run_id=run)
    click.echo(
        f"run {run}: {topic} " + ("has no limit any more" if unlimited else f"is limited to {_words(records, size)}")
    )


def _words(records: float | None, size: float | None) -> str:
    parts = [None if records is None else f"{records:g} records/s", None if size is None else f"{size:g} bytes/s"]
    return " and ".join(part for part in parts if part)
