"""Replays a snapshot and writes a digest of every partition: the check that a data set, and what reads it, is what it was.

    python -m pipelines.replay_snapshot views.json digests.jsonl
    python -m pipelines.replay_snapshot views.json again.jsonl --expect digests.jsonl --runner=PrismRunner

No broker is asked, only the archive that the snapshot names (docs/snapshots.md). Two runs give the same file to the byte, on every
runner; a file of the archive that was lost or changed is an error that names it. Exit code 1 where `--expect` differs, with the
partition and how. All other arguments are Beam's pipeline options.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_unified import KafkaTimestamp, ReadUnified
from beam_unified.event_time import TimestampFn
from beam_unified.testing import PartitionDigest, PartitionDigests, assert_same_digests

DEFAULTS = ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"]
"""What DirectRunner becomes where Prism cannot be downloaded. Options that come later win."""


def build(
    pipeline: beam.Pipeline,
    snapshot: str,
    output: str,
    *,
    timestamp_fn: TimestampFn | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> None:
    """The pipeline. Your own steps would follow the read; the digests tell whether a difference behind them is theirs.

    Args:
        pipeline: Where it goes.
        snapshot: Path or URL of what `Snapshot.save` or `beam-unified snapshot` wrote.
        output: Path or URL of the digests, a line of JSON a partition, sorted.
        timestamp_fn: Event time; it is part of the digest. None is Kafka's timestamp.
        storage_options: Passed to fsspec for snapshot and archive.
    """
    records = pipeline | "Replay" >> ReadUnified.from_snapshot(
        snapshot,
        timestamp_fn=KafkaTimestamp() if timestamp_fn is None else timestamp_fn,
        storage_options=storage_options,
        output="record",
    )
    _ = (
        records
        | PartitionDigests()
        | "All of them" >> beam.combiners.ToList()  # one a partition: few
        | "Lines" >> beam.FlatMap(lambda found: [json.dumps(one._asdict()) for one in sorted(found)])
        | "Write" >> beam.io.WriteToText(output, shard_name_template="")
    )


def load(path: str) -> list[PartitionDigest]:
    """The digests of an earlier run."""
    return [PartitionDigest(**json.loads(line)) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def main(arguments: Sequence[str]) -> int:
    """Replays, writes, compares."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.replay_snapshot", description=__doc__)
    parser.add_argument("snapshot")
    parser.add_argument("output")
    parser.add_argument("--expect", help="digests of an earlier run")
    chosen, options = parser.parse_known_args(arguments)
    expected = None if chosen.expect is None else load(chosen.expect)
    with beam.Pipeline(options=PipelineOptions([*DEFAULTS, *options])) as pipeline:
        build(pipeline, chosen.snapshot, chosen.output)
    digests = load(chosen.output)
    print(f"{sum(one.records for one in digests):,} records of {len(digests)} partitions: {chosen.output}")
    if expected is None:
        return 0
    try:
        assert_same_digests(digests, expected)
    except AssertionError as difference:
        print(f"DIFFERENT: {difference}", file=sys.stderr)
        return 1
    print(f"The same as {chosen.expect}.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
