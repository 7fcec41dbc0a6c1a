"""Tables for the terminal, and the figure."""

import calendar
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import matplotlib.dates as mdates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from beam_unified.offsets import OffsetRange
from pipelines.flights.checks import PartitionResult
from pipelines.flights.observer import Step

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito: told apart by every eye


def partitions_table(results: Sequence[PartitionResult]) -> str:
    """A row a partition, and their sum."""
    header = ["partition", "offsets in files", "still in Kafka", "handoff", "from files", "from Kafka"]
    header += ["records", "duplicates", "missing"]
    rows = [
        [
            str(result.partition),
            _offsets(result.archived),
            _offsets(result.kafka),
            "none" if result.handoff is None else f"{result.handoff:,}",
            *map("{:,}".format, _counts(result)),
        ]
        for result in results
    ]
    sums = (sum(column) for column in zip(*map(_counts, results), strict=True))
    return _aligned([header, *rows, ["all", "", "", "", *map("{:,}".format, sums)]])


def months_table(flights_per_month: Mapping[int, int]) -> str:
    """Months side by side."""
    months = sorted(flights_per_month)
    return _aligned(
        [[calendar.month_abbr[month] for month in months], [f"{flights_per_month[month]:,}" for month in months]]
    )


def watermark_figure(steps: Sequence[Step], path: Path) -> None:
    """Draws the watermark of every partition against processing time, and where it changed from files to Kafka."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.add_subplot()
    for partition in sorted({step.partition for step in steps}):
        colour = _COLOURS[partition % len(_COLOURS)]
        _draw_partition(
            axes, [step for step in steps if step.partition == partition], f"partition {partition}, from files", colour
        )
    handles, labels = axes.get_legend_handles_labels()
    in_kafka = Line2D([], [], color="black", linestyle=":", linewidth=2)
    switch = Line2D([], [], color="black", marker="o", markerfacecolor="white", markersize=8, linestyle="none")
    axes.legend([*handles, in_kafka, switch], [*labels, "from Kafka", "switch from files to Kafka"], loc="lower right")
    axes.set_title("A year of flights as one log: files first, then Kafka", loc="left")
    axes.set_xlabel("processing time (seconds since the pipeline was started)")
    axes.set_ylabel("watermark (event time: scheduled departure)")
    axes.set_xlim(left=0)
    axes.yaxis.set_major_locator(mdates.MonthLocator())
    axes.yaxis.set_major_formatter(mdates.DateFormatter("%b %Y"))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(
        "The watermark as reported to the runner, one call behind what was read. A line ends with the partition's last batch.",
        fontsize=8,
        color="dimgrey",
    )
    figure.savefig(path, dpi=150)


def _draw_partition(axes: Axes, steps: Sequence[Step], label: str, colour: str) -> None:
    """One line: solid while files were read, dotted after the switch. Before the first watermark there is no line."""
    points = [(step.seconds, _instant(step.watermark), step.store) for step in steps if step.watermark is not None]
    if not points:
        return
    switch = next((index for index, (_, _, store) in enumerate(points) if store == "kafka"), len(points))
    seconds, watermarks, _ = zip(*points, strict=True)
    axes.step(seconds[: switch + 1], watermarks[: switch + 1], where="post", color=colour, linewidth=2, label=label)
    if switch < len(points):
        axes.step(seconds[switch:], watermarks[switch:], where="post", color=colour, linewidth=2, linestyle=":")
        axes.plot(
            seconds[switch],
            watermarks[switch],
            marker="o",
            color=colour,
            markerfacecolor="white",
            markersize=8,
            zorder=3,
        )


def _instant(micros: int) -> datetime:
    return datetime.fromtimestamp(micros / 1_000_000, tz=UTC)


def _counts(result: PartitionResult) -> tuple[int, ...]:
    return len(result.from_archive), len(result.from_kafka), result.records, result.duplicates, result.missing


def _offsets(offsets: OffsetRange) -> str:
    return "none" if offsets.start == offsets.stop else f"{offsets.start:,} to {offsets.stop - 1:,}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows
    )
