"""What synchronisation costs, without services: `python -m benchmarks.sync`. `python -m benchmarks` prints and keeps it, too.

The reduction for groups of several sizes; how long it takes until every worker knows a new minimum; and a simulation of
10,000 members, whose clock is moved by hand, for what a sync topic has to carry.
"""

import random
import sys
import time
from collections.abc import Iterable

from beam_unified.offsets import TopicPartition
from beam_unified.sync import wire
from beam_unified.sync.options import ReaderRules, SyncGroup
from beam_unified.sync.policy import judge
from beam_unified.sync.reduction import GroupView
from beam_unified.sync.reports import Logged, Phase, Report
from tests.sync_world import Reader, World

MEMBERS = (2, 64, 512, 10_000)
_REPORTS = 50_000
_SECOND = 1_000_000


def measure() -> dict[str, object]:
    """All figures, by name."""
    return {
        "sync_reduction_us": {str(members): round(reduction_us(members), 2) for members in MEMBERS},
        "sync_turn_us": {str(members): round(turn_us(members), 2) for members in MEMBERS[:3]},
        "sync_convergence_ms": {str(delay): convergence_ms(delay) for delay in (5, 20, 100)},
        "sync_10000_members": traffic(members=10_000, workers=20, seconds=3),
    }


def reduction_us(members: int) -> float:
    """Microseconds for one report of a group, and what its reader asks of the view then."""
    view = GroupView(["pins"], stale_after_ms=30_000, ignore_silent=False)
    chance = random.Random(members)
    marks = [0] * members
    log = []
    for number in range(members + _REPORTS):
        partition = number % members
        marks[partition] += chance.randrange(2 * _SECOND)
        log.append(
            Report(
                member=TopicPartition("pins", partition), watermark=marks[partition], position=number,
                phase=Phase.ARCHIVE, partitions=members, author="a", sequence=number,
            )
        )  # fmt: skip
    for report in log[:members]:
        view.observe(Logged(report, 0))
    rules = ReaderRules()
    began = time.perf_counter()
    for number, report in enumerate(log[members:]):
        view.observe(Logged(report, number))
        judge(view, report.level, rules, max_drift=3_600 * _SECOND)
    return (time.perf_counter() - began) / _REPORTS * 1e6


def turn_us(members: int) -> float:
    """Microseconds of one turn of a reader, everything included but input and output: what a batch costs more in a group."""
    world = _world(members, workers=1, max_drift="7d")
    began, turns = time.perf_counter(), 0
    while turns < 20_000:
        world.pass_ms(100, every_ms=100)
        turns += members
    return (time.perf_counter() - began) / turns * 1e6


def convergence_ms(delay_ms: int) -> int:
    """Until the last of 64 readers on 8 workers knows that the slowest one has moved; the log takes `delay_ms` each way."""
    world = _world(64, workers=8, max_drift="1m", delay_ms=delay_ms)
    slowest, *others = world.readers
    slowest.batch = 0
    slowest.watermark = 0
    world.pass_ms(5_000)
    slowest.watermark = 50 * _SECOND
    waited = 0
    while any(reader.turn.watermark_cap < 110 * _SECOND for reader in others):
        world.pass_ms(1, every_ms=1)
        waited += 1
    return waited


def traffic(*, members: int, workers: int, seconds: int) -> dict[str, float]:
    """Messages and bytes a second into the sync topic, and seconds of processor a simulated second and worker."""
    world = _world(members, workers=workers, max_drift="7d")
    world.pass_ms(2_000, every_ms=100)
    before, began = len(world.log.entries), time.perf_counter()
    world.pass_ms(seconds * 1_000, every_ms=100)
    took = time.perf_counter() - began
    entries = [logged.entry for logged in world.log.entries[before:]]
    size = sum(len(key) + len(value) for key, value in (wire.encode("group", "0" * 32, entry) for entry in entries))
    return {
        "messages_per_s": round(len(entries) / seconds),
        "bytes_per_s": round(size / seconds),
        "cpu_s_per_s_and_worker": round(took / seconds / workers, 3),
    }


def print_figures(figures: dict[str, object]) -> None:
    """One line a figure."""
    for name, found in figures.items():
        pairs: Iterable[tuple[object, object]] = found.items() if isinstance(found, dict) else [("", found)]
        print(f"{name:22}" + "  ".join(f"{key}: {value:,}" for key, value in pairs))


def _world(members: int, *, workers: int, max_drift: str, delay_ms: int = 10) -> World:
    readers: list[list[Reader]] = [[] for _ in range(workers)]
    for partition in range(members):
        reader = Reader(TopicPartition("pins", partition), partitions=members, batch=1)
        readers[partition % workers].append(reader)
    return World(
        lambda clock, log: SyncGroup("group", ["pins"], max_drift=max_drift, coordinator=log, clock=clock),
        readers,
        lambda: delay_ms,
    )


if __name__ == "__main__":
    print_figures(measure())
    sys.exit(0)
