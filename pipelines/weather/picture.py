"""`watermarks.png`: both topics of each run, the phases in which they were held, and LAUNCH."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import matplotlib.dates as mdates
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pipelines.weather.outcome import Outcome
from pipelines.weather.topics import FLIGHTS, WEATHER

_COLOURS = {WEATHER: "#0072B2", FLIGHTS: "#D55E00"}  # Okabe and Ito: told apart by every eye
_HELD_ALPHA = 0.2
_HELD_BAND = {FLIGHTS: (0.5, 1.0), WEATHER: (0.0, 0.5)}  # upper and lower half: both may be held at a time


def draw(outcomes: Sequence[Outcome], launch_ms: int, path: Path) -> None:
    """One panel a run, all with the same scales."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    panels = list(figure.subplots(2, 2, sharex=True, sharey=True).flat)
    launch = _day(launch_ms * 1_000)
    for axes, outcome in zip(panels, outcomes, strict=False):
        _panel(axes, outcome, launch)
    panels[0].set_xlim(0, max(outcome.seconds for outcome in outcomes))  # of all panels, now that all is drawn
    handles = [
        *(Line2D([], [], color=colour, linewidth=2, label=topic) for topic, colour in _COLOURS.items()),
        *(
            Patch(color=colour, alpha=_HELD_ALPHA, label=f"{topic} held ({_half(topic)} half)", linewidth=0)
            for topic, colour in _COLOURS.items()
        ),
        Line2D([], [], color="black", linestyle="--", linewidth=1, label="LAUNCH"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False)
    figure.supylabel("watermark (event time, slowest partition)")
    figure.suptitle("Flights and weather, replayed from the archive into the live tail", x=0.01, ha="left")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def _panel(axes: Axes, outcome: Outcome, launch: float) -> None:
    for topic, colour in _COLOURS.items():
        curve = outcome.curves[topic]
        for begins, ends in curve.held:
            axes.axvspan(begins, ends, *_HELD_BAND[topic], color=colour, alpha=_HELD_ALPHA, linewidth=0)
        if curve.watermark:
            seconds, micros = zip(*curve.watermark, strict=True)
            axes.step(seconds, [_day(each) for each in micros], where="post", color=colour, linewidth=2, zorder=3)
    axes.axhline(launch, color="black", linestyle="--", linewidth=1)
    axes.set_title(f"{outcome.way}: {outcome.ratio:.2%} matched", loc="left", fontsize=11)
    axes.yaxis.set_major_locator(mdates.AutoDateLocator(maxticks=7))
    axes.yaxis.set_major_formatter(mdates.DateFormatter("%d %b %Y"))
    axes.xaxis.set_tick_params(labelbottom=True)
    axes.set_xlabel("seconds since the first reader began", fontsize=9)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _half(topic: str) -> str:
    return "upper" if _HELD_BAND[topic][0] else "lower"


def _day(micros: int) -> float:
    """As matplotlib counts days."""
    return float(mdates.date2num(datetime.fromtimestamp(micros / 1_000_000, tz=UTC)))
