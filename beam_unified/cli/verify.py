"""`beam-unified verify`: the archive of a topic against itself, and against Kafka."""

from collections import Counter
from collections.abc import Iterator

import click

from beam_unified.cli import exits
from beam_unified.cli.output import Row, output_option, progress, show
from beam_unified.cli.settings import Stores, store_options
from beam_unified.inspection.verification import Finding, verify


@click.command("verify")
@click.argument("topic")
@click.option(
    "--deep", is_flag=True, help="Read every file with its checksums, and compare with what Kafka still holds."
)
@click.option("--strict", is_flag=True, help="Warnings count as problems, too.")
@output_option
@store_options
def command(stores: Stores, topic: str, deep: bool, strict: bool, output: str) -> int:
    """Gaps, overlaps, half flushes, orphans, and files that are missing, cut short or (--deep) unreadable or different.

    Exit code 5 when there are errors. Warnings are what readers of this package do not notice: overlaps, open claims, orphans.
    """
    archive = stores.real_archive("verify")
    seen = Counter[str]()

    def rows() -> Iterator[Row]:
        with progress("verifying") as advance:
            for finding in verify(topic, stores.kafka, archive, deep=deep, on_flush=advance):
                seen[finding.severity] += 1
                yield _row(topic, finding)

    show(rows(), output, empty=f"topic {topic!r}: nothing is wrong")
    return exits.PROBLEMS if seen["error"] or (strict and seen["warning"]) else exits.DONE


def _row(topic: str, finding: Finding) -> Row:
    return {
        "severity": finding.severity,
        "kind": finding.kind,
        "topic": topic,
        "partition": None if finding.tp is None else finding.tp.partition,
        "offsets": finding.offsets,
        "path": finding.path,
        "detail": finding.detail,
    }
