"""Runs the benchmarks and prints ratios: `python -m benchmarks [--records N] [--runs N] [--runners direct flink] [--figures ..]`.

Each ratio is records a second through `ReadUnified`, divided by records a second of a plain loop over the same data in
the same run. Set-up is left out of both and printed: connecting and listing, on Flink also submitting the job. `latency_*` are
rates with latency over rates without. Fails where a ratio is a quarter below the one in benchmarks/baseline.json.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import apache_beam as beam

from benchmarks import archiving, backfill, guard, index, latency, sync, synced_reads
from benchmarks.observe import Stopwatch
from benchmarks.reads import Data, Output, Store, beam_read, on_direct, on_flink, plain_archive, plain_kafka, prepare
from integration.services import lifecycle
from integration.services.flink import FlinkCluster
from integration.services.kafka import KafkaBroker
from integration.services.object_store import ObjectStore
from integration.services.process import Run, named_run

HERE = Path(__file__).parent
PLAIN: dict[Store, Callable[[Data, Output], Stopwatch]] = {
    "archive": plain_archive,
    "kafka": plain_kafka,
    "kafka_confluent": plain_kafka,  # the same loop, over kafka-python: what is gained is what is compared
}
BASELINE = HERE / "baseline.json"
FIGURES: dict[str, tuple[Store, Output]] = {
    "archive_to_elements": ("archive", "record"),
    "kafka_to_elements": ("kafka", "record"),
    "kafka_confluent_to_elements": ("kafka_confluent", "record"),
    "archive_to_values": ("archive", "value"),
    "kafka_to_values": ("kafka", "value"),
    "kafka_confluent_to_values": ("kafka_confluent", "value"),
    "archive_to_arrow": ("archive", "arrow"),
    "kafka_to_arrow": ("kafka", "arrow"),
}


def main() -> int:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--runners", nargs="+", choices=["direct", "flink"], default=["direct", "flink"])
    parser.add_argument(
        "--figures", nargs="+", choices=FIGURES, help="these alone, and nothing that is not a read of one partition"
    )
    parser.add_argument("--baseline", action="store_true", help="also write benchmarks/baseline.json, which is tracked")
    arguments = parser.parse_args()
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    run = named_run(f"bench-{os.getpid()}")
    try:
        with tempfile.TemporaryDirectory() as folder:
            broker = lifecycle.ensure(KafkaBroker, run)
            runners: dict[str, Callable[[beam.Pipeline], None]] = {}
            if "direct" in arguments.runners:
                runners["direct"] = on_direct
            if "flink" in arguments.runners:
                cluster = lifecycle.ensure(FlinkCluster, run, _two_task_managers)
                runners["flink"] = on_flink(cluster.job_endpoint)
            data = prepare(Path(folder), broker, records=arguments.records)
            results = measure(data, runners, arguments.runs, arguments.figures or list(FIGURES))
            in_pieces, latencies, archiver, synced, indexes = {}, {}, {}, {}, {}
            if arguments.figures is None:
                if "flink" in runners:
                    in_pieces = backfill.measure(run, cluster, data, Path(folder), runs=arguments.runs)
                latencies = latency.measure(lifecycle.ensure(ObjectStore, run), runs=arguments.runs)
                archiver = archiving.measure(Path(folder), data, runners, runs=arguments.runs)
                indexes = index.measure(run, broker)
                synced = synced_reads.measure(
                    Path(folder), broker.bootstrap_servers, runners, records=arguments.records, runs=arguments.runs
                )
    finally:
        run.remove()
    document = summary(results, arguments.records, arguments.runs)
    print_table(document)
    if in_pieces:
        document["backfill_parallelism_2_to_1"] = {"flink": in_pieces["ratio"]}
        document["details"]["backfill_parallelism_2_to_1"] = in_pieces  # type: ignore[index]
        print(f"{'backfill_2_to_1':28}{'flink':8}{in_pieces['ratio']:7.2f}  {in_pieces}")
    if arguments.figures is None:
        document |= (by_latency := {f"latency_{figure}": found for figure, found in latencies.items()})
        sync.print_figures(dict(by_latency))
        document["details"]["sync"] = synchronisation = {**synced, **sync.measure()}  # type: ignore[index]
        sync.print_figures(synchronisation)
        for name, figures in (("archiver", archiver), ("index", indexes)):
            document["details"][name] = figures  # type: ignore[index]
            sync.print_figures(figures)
    worse = guard.dropped(guard.ratios(document), guard.ratios(json.loads(BASELINE.read_text(encoding="utf-8"))))
    for path in (HERE / "latest.json", *([BASELINE] if arguments.baseline else [])):
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    for line in worse:
        print(f"worse than the baseline: {line}", file=sys.stderr)
    return 1 if worse and not arguments.baseline else 0


def _two_task_managers(run: Run) -> FlinkCluster:
    """Of one slot each, so that two workers are two processes."""
    return FlinkCluster.start(run, task_managers=2, slots=1)


def measure(
    data: Data, runners: dict[str, Callable[[beam.Pipeline], None]], runs: int, figures: Sequence[str]
) -> dict[tuple[str, str], list[Stopwatch]]:
    """(figure, runner or "plain") -> one stopwatch a run. What is compared runs in turn, so that drift meets both."""
    found: dict[tuple[str, str], list[Stopwatch]] = defaultdict(list)
    for number in range(runs):
        for figure in figures:
            store, output = FIGURES[figure]
            print(f"run {number + 1} of {runs}: {figure}", file=sys.stderr, flush=True)
            found[figure, "plain"].append(PLAIN[store](data, output))
            for name, run in runners.items():
                found[figure, name].append(beam_read(data, store, output, run))
    return found


def summary(results: dict[tuple[str, str], list[Stopwatch]], records: int, runs: int) -> dict[str, object]:
    """Ratios on top, as the baseline is compared; what they were made of below."""
    ratios: dict[str, dict[str, float]] = defaultdict(dict)
    details: dict[str, dict[str, object]] = defaultdict(dict)
    for (figure, runner), watches in results.items():
        rates = [watch.rate for watch in watches]
        details[figure][runner] = {
            "records_per_second": [round(rate) for rate in rates],
            "setup_seconds": [round(watch.setup_s, 2) for watch in watches],
        }
        if runner != "plain":
            pairs = [rate / plain.rate for rate, plain in zip(rates, results[figure, "plain"], strict=True)]
            ratios[figure][runner] = round(statistics.median(pairs), 3)
            details[figure][runner] |= {"ratios": [round(pair, 3) for pair in pairs]}  # type: ignore[operator]
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    return {**ratios, "details": {"records": records, "runs": runs, "machine": machine, "figures": details}}


def print_table(document: dict[str, object]) -> None:
    """One line a figure and runner."""
    figures = document["details"]["figures"]  # type: ignore[index]
    print(f"{'figure':28}{'runner':8}{'ratio':>7}  {'spread':16}{'records/s':>22}{'set-up s':>16}")
    for figure, by_runner in figures.items():
        for runner, detail in by_runner.items():
            rates, setup = detail["records_per_second"], detail["setup_seconds"]
            ratio = document[figure][runner] if runner != "plain" else 1.0  # type: ignore[index]
            spread = " ".join(f"{value:.2f}" for value in detail.get("ratios", []))
            print(
                f"{figure:28}{runner:8}{ratio:7.2f}  {spread:16}{' '.join(f'{r:,}' for r in rates):>22}"
                f"{' '.join(f'{s:.2f}' for s in setup):>16}"
            )


if __name__ == "__main__":
    sys.exit(main())
