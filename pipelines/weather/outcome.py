"""What a run showed, from its ledger. Pure, but for `of_ledger`, which reads it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from pipelines.weather import ledger
from pipelines.weather.topics import FlightId, World

_GAP_S = 1.0  # two calls in which a reader was held belong to one phase where they are this close

Span = tuple[float, float]
"""From and to, in seconds since the first reader did something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """The most that the join held at a time.

    Attributes:
        flights: Flights that waited for their weather.
        observations: Observations that were kept.
        records: Both together; not their sum, where they peaked at different times.
    """

    flights: int
    observations: int
    records: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One topic in the picture.

    Attributes:
        watermark: Seconds and microseconds of event time: the slowest partition.
        held: While gate or drift held all of its readers that read at all meanwhile.
    """

    watermark: Sequence[tuple[float, int]]
    held: Sequence[Span]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run.

    Attributes:
        way: Its name.
        flights: How many came out.
        matches: How many of them with weather.
        batch_matches: How many a batch join of the same range finds.
        wrong: Flights that a batch join matches and this one did not, or the other way round, or that came out not once.
        peak: Of the state.
        first_match_s: Until the first match came out; None where none did.
        seconds: Until the last flight came out.
        curves: Topic -> curve.
    """

    way: str
    flights: int
    matches: int
    batch_matches: int
    wrong: int
    peak: Peak
    first_match_s: float | None
    seconds: float
    curves: Mapping[str, Curve]

    @property
    def ratio(self) -> float:
        """Flights with weather, of all."""
        return ratio(self.matches, self.flights)

    @property
    def batch_ratio(self) -> float:
        """The same of the batch join."""
        return ratio(self.batch_matches, self.flights)


def of_ledger(way: str, folder: Path, world: World) -> Outcome:
    """Reads what a run has written down."""
    events = sorted(ledger.rows(folder, ledger.EVENTS), key=lambda row: row[0])
    joined = list(ledger.rows(folder, ledger.JOINED))
    began = events[0][0]
    found: dict[FlightId, list[bool]] = {}
    for _, partition, offset, matched, _ in joined:
        found.setdefault((partition, offset), []).append(matched)
    first = min((row[0] for row in joined if row[3]), default=None)
    return Outcome(
        way=way,
        flights=len(joined),
        matches=sum(row[3] for row in joined),
        batch_matches=world.batch_matches,
        wrong=len(wrong(world.expected, found)),
        peak=peak(ledger.rows(folder, ledger.STATE)),
        first_match_s=None if first is None else (first - began) / 1_000,
        seconds=(max(row[0] for row in joined) - began) / 1_000,
        curves={
            topic: curve([((row[0] - began) / 1_000, *row[2:]) for row in events if row[1] == world.name(topic)])
            for topic in world.stops
        },
    )


def ratio(part: int, whole: int) -> float:
    """A part of a whole; 0 of nothing."""
    return part / whole if whole else 0.0


def wrong(expected: Mapping[FlightId, bool], found: Mapping[FlightId, Sequence[bool]]) -> set[FlightId]:
    """Flights that did not come out exactly once and as expected."""
    differ = {flight for flight, matched in expected.items() if list(found.get(flight, ())) != [matched]}
    return differ | (found.keys() - expected.keys())


def peak(changes: Iterable[Sequence[int]]) -> Peak:
    """The most there was at a time, from changes as (milliseconds, flights more, observations more), in any order."""
    in_time = sorted(changes, key=lambda row: row[0])
    flights = list(accumulate((row[1] for row in in_time), initial=0))
    observations = list(accumulate((row[2] for row in in_time), initial=0))
    both = map(sum, zip(flights, observations, strict=True))
    return Peak(flights=max(flights), observations=max(observations), records=max(both))


def curve(events: Sequence[tuple[float, int, int, int | None, str | None]]) -> Curve:
    """One topic, from its readers' events: seconds, partition, records, watermark, why it was held."""
    watermarks: dict[int, int | None] = {event[1]: None for event in events}
    points = list[tuple[float, int]]()
    for seconds, partition, _, watermark, _ in events:
        watermarks[partition] = watermark
        known = [each for each in watermarks.values() if each is not None]
        if len(known) == len(watermarks) and (not points or points[-1][1] < min(known)):
            points.append((seconds, min(known)))
    waits = [event[0] for event in events if event[4] in {"gate", "drift"}]
    read = [event[0] for event in events if event[2]]
    return Curve(watermark=points, held=phases(waits, read))


def phases(waits: Sequence[float], read: Sequence[float]) -> list[Span]:
    """Phases in which readers were held and none read: runs of waits with no gap and no batch within, in seconds."""
    spans = list[Span]()
    for at in waits:
        begins, ends = spans[-1] if spans else (at, at)
        if spans and at - ends <= _GAP_S and not any(ends < batch < at for batch in read):
            spans[-1] = begins, at
        else:
            spans.append((at, at))
    return [(begins, ends) for begins, ends in spans if ends > begins]


def table(outcomes: Sequence[Outcome]) -> str:
    """The runs side by side, in Markdown."""
    header = [
        "",
        "matched",
        "match ratio",
        "batch join",
        "flights waiting",
        "observations kept",
        "first match",
        "all out",
    ]
    cells = [
        [
            outcome.way,
            f"{outcome.matches:,} of {outcome.flights:,}",
            f"{outcome.ratio:.3%}",
            f"{outcome.batch_ratio:.3%}",
            f"{outcome.peak.flights:,}",
            f"{outcome.peak.observations:,}",
            "never" if outcome.first_match_s is None else f"{outcome.first_match_s:.1f} s",
            f"{outcome.seconds:.0f} s",
        ]
        for outcome in outcomes
    ]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in [header, *cells]]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def problems(outcomes: Sequence[Outcome], synchronised: str) -> list[str]:
    """What contradicts the story: a run that lost flights, the synchronised one not exact, another one no worse."""
    found = []
    for outcome in outcomes:
        if outcome.way == synchronised and outcome.wrong:
            found.append(f"{outcome.way}: {outcome.wrong} flights differ from the batch join")
        if outcome.way != synchronised and outcome.matches >= outcome.batch_matches:
            found.append(f"{outcome.way}: nothing was lost, so it proves nothing")
    return found
