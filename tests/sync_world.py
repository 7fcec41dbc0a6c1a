"""A sync group in one thread: workers, their readers and the log between them, with a clock moved by hand.

For tests and benchmarks of synchronisation. Nothing happens unless `World.pass_ms` lets time pass or a reader takes its turn.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from beam_unified.offsets import TopicPartition
from beam_unified.sync.coordinator import subject
from beam_unified.sync.options import ReaderRules, SyncGroup
from beam_unified.sync.reports import Entry, Logged, Phase
from beam_unified.sync.synchronizer import Synchronizer
from beam_unified.testing import ManualClock


class SlowLog:
    """A log that takes its time. Implements `CoordinatorSource`.

    Args:
        clock: Its time.
        delay_ms: How long the next entry takes to get into the log, and the next look to come back.
    """

    def __init__(self, clock: ManualClock, delay_ms: Callable[[], int] = lambda: 10) -> None:
        self.clock, self.delay_ms = clock, delay_ms
        self.reachable = True
        self.entries: list[Logged] = []
        self._on_the_way: list[tuple[int, Entry]] = []

    def connect(self, group: str, run_id: str) -> "SlowConnection":
        """One more reader of the one run there is."""
        return SlowConnection(self)

    def send(self, entry: Entry) -> None:
        """An entry leaves a worker."""
        self._on_the_way.append((self.clock.now_ms() + self.delay_ms(), entry))

    def arrive(self) -> None:
        """Takes what has arrived by now; while it is lost, the newest of each subject waits."""
        now = self.clock.now_ms()
        if not self.reachable:
            self._on_the_way = list({subject(entry): (at, entry) for at, entry in self._on_the_way}.values())
            return
        arrived = sorted((one for one in self._on_the_way if one[0] <= now), key=lambda one: one[0])
        self._on_the_way = [one for one in self._on_the_way if one[0] > now]
        self.entries.extend(Logged(entry, now) for _, entry in arrived)


class SlowConnection:
    """Implements `Coordinator`."""

    def __init__(self, log: SlowLog) -> None:
        self._log, self._read, self._look_at = log, 0, log.clock.now_ms() + log.delay_ms()
        self._first_end: int | None = None
        self.closed = False

    def publish(self, entry: Entry) -> None:
        """Sends."""
        self._log.send(entry)

    def drain(self) -> Sequence[Logged]:
        """What has come; a look takes its time."""
        self._log.arrive()
        if not self._log.reachable or self._log.clock.now_ms() < self._look_at:
            return ()
        self._look_at = self._log.clock.now_ms() + self._log.delay_ms()
        found = self._log.entries[self._read :]
        self._read += len(found)
        self._first_end = len(self._log.entries) if self._first_end is None else self._first_end
        return found

    def caught_up(self) -> bool:
        """Whether the first look is over."""
        return self._first_end is not None

    def close(self) -> None:
        """Nothing to give back."""
        self.closed = True


@dataclass
class Reader:
    """A reader of one partition that always wants more. Its records have rising event times, `step` microseconds apart.

    It does what the source does: a turn, a batch, another turn; a record not below `emit_before` is put back.
    """

    member: TopicPartition
    rules: ReaderRules = field(default_factory=ReaderRules)
    partitions: int = 1
    first: int = 0
    step: int = 1_000_000
    end: int | None = None
    batch: int = 100
    size_bytes: int = 100
    position: int = 0
    watermark: int | None = None
    turn: Any = None  # the newest `Turn`

    def take_turn(self, synchronizer: Synchronizer) -> int:
        """One batch at most; how many records were read."""
        self.turn = turn = synchronizer.turn(
            self.member,
            watermark=self.watermark,
            position=self.position,
            phase=Phase.DONE if self.done else Phase.ARCHIVE,
            partitions=self.partitions,
            rules=self.rules,
        )
        if turn.hold is not None or self.done:
            return 0
        count = self.batch if turn.records is None else min(self.batch, turn.records)
        count = count if self.end is None else min(count, self.end - self.position)
        if turn.emit_before is not None:
            below = max(0, -(-(turn.emit_before - self.first) // self.step) - self.position)
            if below == 0:
                synchronizer.reached_limit(self.member, position=self.position)
            count = min(count, below)
        if count:
            self.position += count
            self.watermark = self.first + (self.position - 1) * self.step
            synchronizer.spent(self.member, records=count, size_bytes=count * self.size_bytes)
        return count

    @property
    def done(self) -> bool:
        """Whether it has read to its end."""
        return self.end is not None and self.position >= self.end


class World:
    """Workers and their readers.

    Args:
        make_group: Makes the group, of clock and log.
        readers: One list a worker.
        delay_ms: See `SlowLog`.
    """

    def __init__(
        self,
        make_group: Callable[[ManualClock, SlowLog], SyncGroup],
        readers: Iterable[Iterable[Reader]],
        delay_ms: Callable[[], int] = lambda: 10,
    ) -> None:
        self.clock = ManualClock(1_794_830_400_000)
        self.log = SlowLog(self.clock, delay_ms)
        self.group = make_group(self.clock, self.log)
        self.workers = [(Synchronizer(self.group), list(own)) for own in readers]
        self.reads: deque[tuple[int, Reader, int]] = deque()

    @property
    def readers(self) -> list[Reader]:
        """Of all workers."""
        return [reader for _, own in self.workers for reader in own]

    def kill(self, worker: int) -> None:
        """A worker dies and comes back: nothing of what it knew is left."""
        _, own = self.workers[worker]
        self.workers[worker] = Synchronizer(self.group), own

    def pass_ms(self, milliseconds: int, *, every_ms: int = 10, only: Iterable[int] | None = None) -> None:
        """Time passes, and readers take their turns; of some workers only, where the others hang."""
        awake = self.workers if only is None else [self.workers[worker] for worker in only]
        for _ in range(milliseconds // every_ms):
            self.clock.advance(every_ms)
            for synchronizer, own in awake:
                for reader in own:
                    if count := reader.take_turn(synchronizer):
                        self.reads.append((self.clock.now_ms(), reader, count))


def most_in_window(reads: Iterable[tuple[int, float]], window_ms: int) -> float:
    """The largest sum in any window of so many milliseconds; reads are (time, amount), in order."""
    inside: deque[tuple[int, float]] = deque()
    total = most = 0.0
    for at, amount in reads:
        inside.append((at, amount))
        total += amount
        while inside[0][0] <= at - window_ms:
            total -= inside.popleft()[1]
        most = max(most, total)
    return most
