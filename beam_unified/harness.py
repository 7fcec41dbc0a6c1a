"""A harness that plays the runner: it drives a `ReadUnified` through every checkpoint and split, and checks the rules.

    read = ReadUnified("pins", log.kafka, log.archive, timestamp_fn=KafkaTimestamp(), stop=Stop.offsets({0: 20}))
    report = exhaust(read, ("pins", 0))

A run is a sequence of events: a question to a store, a claim, an emitted batch (of a single record too). `exhaust` reads
once undisturbed, then once for every event and every fraction with a split right there (in the middle of `process`, as a
runner does it from another thread), and with a split at every other event; each with several sizes of batch and call, and
with the residuals resumed in several orders. What must hold, in each of those runs:

- the union of what was emitted equals the undisturbed read: nothing lost, nothing doubled, order kept;
- the watermark never goes back, never passes a record that is still to come and is no more than `max_out_of_orderness`
  late, and does not move inside a call (T4);
- what leaves with a residual covers nothing emitted in the same call, and a restriction ends in a call that emitted
  nothing (T4);
- restriction and watermark state survive their coders, at every step (B5).

A broken rule raises AssertionError naming the rule, the run and the place. No runner and no service are needed; over
real stores use `sample` (random splits) instead of `exhaust`.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

from apache_beam.pvalue import TaggedOutput
from apache_beam.runners.sdf_utils import (
    RestrictionTrackerView,
    ThreadsafeRestrictionTracker,
    ThreadsafeWatermarkEstimator,
)
from apache_beam.utils.windowed_value import WindowedValue

from beam_unified.dead_letters import DeadLetter
from beam_unified.flushes import Flush, FlushIndex
from beam_unified.late_files import LateFile
from beam_unified.offsets import OffsetRange, TopicPartition
from beam_unified.source.call import LATE_FILES
from beam_unified.source.discovery import Element
from beam_unified.source.dofn import ReadBounded, ReadUnbounded
from beam_unified.source.options import SourceOptions
from beam_unified.source.pacing import CallBudget
from beam_unified.source.restriction import LogRestriction
from beam_unified.stores import (
    ArchiveLog,
    ArchiveSource,
    Fetched,
    FlushReader,
    KafkaLog,
    KafkaSource,
    Opening,
    OpensAhead,
    OutOfRange,
)
from beam_unified.transforms import ReadUnified
from beam_unified.watermarks import WatermarkState

FRACTIONS: tuple[float | None, ...] = (0.0, None, 0.01, 0.5, 0.99)
BUDGETS = (CallBudget(), CallBudget(records=4, batch_records=3), CallBudget(records=1, batch_records=1))

Emitted = tuple[Any, int]
"""(element, event time in microseconds)."""
_Order = Callable[[list["_Residual"]], "_Residual"]


@dataclass(frozen=True, slots=True)
class Report:
    """What `exhaust` or `sample` did.

    Attributes:
        emitted: The undisturbed read, as (element, event time in microseconds).
        dead_letters: Its dead letters.
        late_files: Its late files, by offset.
        runs: How many reads were made.
        splits: How many of the attempted splits the tracker granted.
        refused: How many it refused.
    """

    emitted: tuple[Emitted, ...]
    dead_letters: tuple[DeadLetter, ...]
    late_files: tuple[LateFile, ...]
    runs: int
    splits: int
    refused: int


def exhaust(
    read: ReadUnified,
    element: Element,
    *,
    fractions: Sequence[float | None] = FRACTIONS,
    budgets: Sequence[CallBudget] = BUDGETS,
    reset: Callable[[], None] | None = None,
) -> Report:
    """Splits at every event, at every fraction. Grows with the square of the records: keep them under a hundred.

    Args:
        read: The transform; bounded, or unbounded over a log that does not grow.
        element: (topic, partition).
        fractions: Passed to `try_split`; 0 and None are "now".
        budgets: Sizes of calls and batches to try.
        reset: Called before every run, to put a scripted world back to its beginning.

    Raises:
        AssertionError: a rule is broken.
    """
    session = _Session(read, element, reset)
    for budget in budgets:
        events = session.run(budget, _Never(), "undisturbed")
        for fraction in fractions:
            for event in range(events):
                session.run(budget, _At(event, fraction), f"split {fraction} at event {event}")
            for order in (_first, _last):
                often = _Often(random.Random(0), (fraction,))  # noqa: S311 - repeatable, not secret
                session.run(budget, often, f"split {fraction} at every other event", order=order)
    return session.report()


def sample(
    read: ReadUnified, element: Element, *, runs: int, seed: int, reset: Callable[[], None] | None = None
) -> Report:
    """Splits at random: for real stores, where a run is not for nothing. Same rules as `exhaust`."""
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
    session = _Session(read, element, reset)
    session.run(CallBudget(), _Never(), "undisturbed")
    for run in range(runs):
        budget = CallBudget(records=dice.choice((10, 100, 1_000)), batch_records=dice.choice((7, 70, 700)))
        session.run(
            budget,
            _Often(dice, FRACTIONS, 0.05),
            f"random run {run} of seed {seed}",
            order=dice.choice((_first, _last)),
        )
    return session.report()


# -- when to split


class _Plan:
    """Decides, event by event, whether to split; what fraction to ask for."""

    def fraction(self, event: int) -> tuple[float | None] | None:
        """A 1-tuple with the fraction to split at, or None to let the reader go on."""
        raise NotImplementedError


class _Never(_Plan):
    def fraction(self, event: int) -> None:
        del event


@dataclass(frozen=True)
class _At(_Plan):
    event: int
    at: float | None

    def fraction(self, event: int) -> tuple[float | None] | None:
        return (self.at,) if event == self.event else None


@dataclass(frozen=True)
class _Often(_Plan):
    """At a random half of the events: a reader that is split at each of them never gets anywhere."""

    dice: random.Random
    fractions: Sequence[float | None]
    chance: float = 0.5

    def fraction(self, event: int) -> tuple[float | None] | None:
        del event
        return (self.dice.choice(self.fractions),) if self.dice.random() < self.chance else None


def _first(residuals: list["_Residual"]) -> "_Residual":
    return residuals.pop(0)


def _last(residuals: list["_Residual"]) -> "_Residual":
    return residuals.pop()


# -- one run


@dataclass(frozen=True, slots=True)
class _Residual:
    """What is handed back to the runner, as it travels: bytes, and the watermark that holds the output."""

    restriction: bytes
    state: bytes
    watermark: int


@dataclass(slots=True)
class _Run:
    """What one run has seen so far. Mutable."""

    name: str
    plan: _Plan
    emitted: list[tuple[int, Emitted]] = field(default_factory=list)
    letters: list[tuple[int, DeadLetter]] = field(default_factory=list)
    late_files: list[tuple[int, LateFile]] = field(default_factory=list)
    events: int = 0
    splits: int = 0
    refused: int = 0
    idle_calls: int = 0
    on_event: Callable[[], None] | None = None

    def event(self) -> None:
        """Something happened inside of `process`: perhaps the runner splits here."""
        if self.on_event is not None:
            self.on_event()


_LIMIT_CALLS = 100_000
_IDLE_CALLS = 3  # so many calls without news end the read of an unbounded log


class _Session:
    """Runs over one transform."""

    def __init__(self, read: ReadUnified, element: Element, reset: Callable[[], None] | None) -> None:
        dofn = read.splittable_dofn()
        self._bounded = isinstance(dofn, ReadBounded)
        self._options: SourceOptions = dofn.options
        self._explode = read.explode_dofn()
        self._element = element
        self._reset = reset
        self._expected: tuple[Emitted, ...] | None = None
        self._letters: tuple[DeadLetter, ...] | None = None
        self._late_files: tuple[LateFile, ...] | None = None
        self._runs = self._splits = self._refused = 0

    def report(self) -> Report:
        apart = self._letters or (), self._late_files or ()
        return Report(self._expected or (), *apart, self._runs, self._splits, self._refused)

    def run(self, budget: CallBudget, plan: _Plan, name: str, *, order: _Order = _first) -> int:
        """One read from start to end; gives the number of events in it."""
        if self._reset is not None:
            self._reset()
        run = _Run(f"{name}, {budget}", plan)
        options = replace(
            self._options,
            key=f"{self._options.key}-{self._runs}",
            budget=budget,
            kafka=_ObservedKafka(self._options.kafka, run.event),
            archive=None if self._options.archive is None else _ObservedArchive(self._options.archive, run.event),
        )
        dofn = ReadBounded(options) if self._bounded else ReadUnbounded(options)
        dofn.setup()
        try:
            self._drive(dofn, run, order)
        finally:
            dofn.teardown()
        self._check_union(run)
        self._runs, self._splits, self._refused = self._runs + 1, self._splits + run.splits, self._refused + run.refused
        return run.events

    def _drive(self, dofn: ReadBounded | ReadUnbounded, run: _Run, order: _Order) -> None:
        restrictions, states = dofn.restriction_coder(), dofn.estimator_state_coder()
        pending = []
        for restriction in dofn.split(self._element, dofn.initial_restriction(self._element)):
            state = dofn.initial_estimator_state(self._element, restriction)
            watermark = dofn.create_watermark_estimator(state).current_watermark().micros
            pending.append(_Residual(restrictions.encode(restriction), states.encode(state), watermark))
        for _ in range(_LIMIT_CALLS):
            if not pending or run.idle_calls >= _IDLE_CALLS:
                return
            pending += self._call(dofn, order(pending), run)
        raise AssertionError(f"{run.name}: no end after {_LIMIT_CALLS} calls")

    def _call(self, dofn: ReadBounded | ReadUnbounded, residual: _Residual, run: _Run) -> list[_Residual]:
        """One call of `process`, split as the plan says; gives the residuals."""
        restriction = dofn.restriction_coder().decode(residual.restriction)
        state = dofn.estimator_state_coder().decode(residual.state)
        _same(dofn.restriction_coder().encode(restriction), residual.restriction, "B5: restriction round trip", run)
        _same(dofn.estimator_state_coder().encode(state), residual.state, "B5: watermark state round trip", run)
        tracker = ThreadsafeRestrictionTracker(dofn.create_tracker(restriction))
        estimator = ThreadsafeWatermarkEstimator(dofn.create_watermark_estimator(state))
        assert dofn.restriction_size(self._element, restriction) >= 0
        residuals: list[_Residual] = []
        before = max((micros for _, (_, micros) in run.emitted), default=None)
        started = len(run.emitted)

        def hand_back(rest: LogRestriction) -> None:
            rest_state: WatermarkState = estimator.get_estimator_state()
            residuals.append(
                _Residual(
                    dofn.restriction_coder().encode(rest),
                    dofn.estimator_state_coder().encode(rest_state),
                    estimator.current_watermark().micros,
                )
            )

        def on_event() -> None:
            fraction = run.plan.fraction(run.events)
            run.events += 1
            if fraction is not None:
                split = tracker.try_split(fraction[0])
                if split is None:
                    run.refused += 1
                else:
                    run.splits += 1
                    hand_back(split[1])

        run.on_event = on_event
        view = _ObservedView(RestrictionTrackerView(tracker), run.event)
        letters = 0
        for output in dofn.process(self._element, tracker=view, estimator=estimator) or ():
            if isinstance(output, TaggedOutput):
                apart: list[Any] = run.late_files if output.tag == LATE_FILES else run.letters
                apart.append((restriction.start, output.value.value))
                letters += 1
                continue
            now = estimator.current_watermark().micros
            for element in self._explode.process(output.value):
                self._check_watermark_at(element, residual, run)
                self._check_hold(element.timestamp_micros, output.timestamp_micros, now, run)
                run.emitted.append((restriction.start, (element.value, element.timestamp_micros)))
            run.event()
        run.on_event = None
        emitted_here = len(run.emitted) - started + letters
        deferred = tracker.deferred_status()
        if deferred is not None:
            hand_back(deferred[0])
        tracker.check_done()
        self._check_call(run, residual, residuals, emitted_here, before)
        run.idle_calls = 0 if emitted_here or not residuals else run.idle_calls + (deferred is not None)
        return residuals

    # -- the rules

    def _check_watermark_at(self, output: WindowedValue, residual: _Residual, run: _Run) -> None:
        newest = max((micros for _, (_, micros) in run.emitted), default=None)
        late = newest is not None and output.timestamp_micros < newest - self._options.max_out_of_orderness
        if not late and self._options.initial_watermark is None:
            assert output.timestamp_micros >= residual.watermark, (
                f"T1, {run.name}: watermark {residual.watermark} passed {output.value!r} at {output.timestamp_micros}"
            )

    def _check_hold(self, micros: int, chunk_micros: int, watermark: int, run: _Run) -> None:
        """A chunk holds the watermark for what is in it. A batch of columns does for what is not late in it, and is not late."""
        columns = self._options.arrow is not None
        late = columns and micros < watermark
        assert late or micros >= chunk_micros, f"T1, {run.name}: a chunk holds too little"
        assert not columns or chunk_micros >= watermark, f"T4, {run.name}: a batch is late as a whole"

    def _check_call(
        self, run: _Run, given: _Residual, residuals: Iterable[_Residual], emitted: int, newest_before: int | None
    ) -> None:
        left = list(residuals)
        if not left:
            assert emitted == 0, f"T4, {run.name}: the restriction ended in a call that emitted {emitted} records"
        for residual in left:
            assert residual.watermark >= given.watermark, f"T1, {run.name}: the watermark went back"
            if emitted and newest_before is not None:
                limit = max(given.watermark, newest_before - self._options.max_out_of_orderness)
                assert residual.watermark <= limit, f"T4, {run.name}: the watermark covers what the same call emitted"
            if emitted and newest_before is None:
                assert residual.watermark == given.watermark, f"T4, {run.name}: the first call moved the watermark"

    def _check_union(self, run: _Run) -> None:
        # A residual starts where its primary ends: by the starts of the calls, stable inside of a call, is log order.
        emitted = tuple(output for _, output in sorted(run.emitted, key=lambda entry: entry[0]))
        if self._expected is None:
            self._expected = emitted
        assert len(emitted) == len(self._expected), (
            f"R1, {run.name}: {len(emitted)} records, the plain read gave {len(self._expected)}"
        )
        assert emitted == self._expected, f"R1, {run.name}: other records, or another order, than the plain read"
        letters = tuple(letter for _, letter in sorted(run.letters, key=lambda entry: entry[0]))
        if self._letters is None:
            self._letters = letters
        assert letters == self._letters, f"B1, {run.name}: other dead letters than the plain read"
        late = tuple(sorted(one for _, one in run.late_files))  # by offset: when each is noticed is the split's doing
        if self._late_files is None:
            self._late_files = late
        assert late == self._late_files, f"A4, {run.name}: other late files than the plain read"


def _same(one: bytes, other: bytes, rule: str, run: _Run) -> None:
    assert one == other, f"{rule}, {run.name}: {one.hex()} is not {other.hex()}"


# -- stores and tracker that say when they are asked


class _ObservedView:
    """The tracker as `process` sees it, with an event before and after every claim."""

    def __init__(self, view: RestrictionTrackerView, event: Callable[[], None]) -> None:
        self._view, self._event = view, event

    def current_restriction(self) -> LogRestriction:
        restriction: LogRestriction = self._view.current_restriction()
        return restriction

    def try_claim(self, position: object) -> bool:
        self._event()
        claimed = self._view.try_claim(position)
        self._event()
        return bool(claimed)

    def defer_remainder(self, deferred_time: object = None) -> None:
        self._view.defer_remainder(deferred_time)


@dataclass(frozen=True)
class _ObservedKafka:
    """A Kafka half with an event in every fetch: a split while `process` waits."""

    source: KafkaSource
    event: Callable[[], None]

    @property
    def isolation_level(self) -> str:
        return self.source.isolation_level

    def connect(self) -> "_ObservedKafkaLog":
        return _ObservedKafkaLog(self.source.connect(), self.event)


@dataclass(frozen=True)
class _ObservedKafkaLog:
    log: KafkaLog
    event: Callable[[], None]

    def partitions(self, topic: str) -> tuple[int, ...]:
        return self.log.partitions(topic)

    def topics(self) -> tuple[str, ...]:
        return self.log.topics()

    def topic_id(self, topic: str) -> str | None:
        return self.log.topic_id(topic)

    def bounds(self, tp: TopicPartition) -> OffsetRange:
        return self.log.bounds(tp)

    def offset_at(self, tp: TopicPartition, timestamp_ms: int) -> int | None:
        return self.log.offset_at(tp, timestamp_ms)

    def fetch(
        self, tp: TopicPartition, offset: int, *, max_records: int, timeout_ms: int, leader_epoch: int | None = None
    ) -> Fetched | OutOfRange:
        self.event()
        return self.log.fetch(tp, offset, max_records=max_records, timeout_ms=timeout_ms, leader_epoch=leader_epoch)

    def close(self) -> None:
        self.log.close()


@dataclass(frozen=True)
class _ObservedArchive:
    """An archive half with an event whenever a flush is opened."""

    source: ArchiveSource
    event: Callable[[], None]

    def connect(self) -> "_ObservedArchiveLog":
        log = self.source.connect()
        if isinstance(log, _ArchiveAhead):
            return _ObservedAhead(log, self.event)
        return _ObservedArchiveLog(log, self.event)


@runtime_checkable
class _ArchiveAhead(ArchiveLog, OpensAhead, Protocol):
    """Both."""


@dataclass(frozen=True)
class _ObservedArchiveLog:
    log: ArchiveLog
    event: Callable[[], None]

    @property
    def index_is_proof(self) -> bool:
        return self.log.index_is_proof

    def check(self, topic: str, *, isolation_level: str, must_exist: bool = True) -> None:
        self.log.check(topic, isolation_level=isolation_level, must_exist=must_exist)

    def index(self, tp: TopicPartition, *, refresh: bool = False) -> FlushIndex:
        return self.log.index(tp, refresh=refresh)

    def open(self, tp: TopicPartition, flush: Flush, offset: int) -> FlushReader:
        self.event()
        return self.log.open(tp, flush, offset)

    def url(self, tp: TopicPartition, flush: Flush) -> str:
        return self.log.url(tp, flush)

    def close(self) -> None:
        self.log.close()


@dataclass(frozen=True)
class _ObservedAhead(_ObservedArchiveLog):
    """One that opens flushes ahead, in threads, where no runner splits."""

    log: _ArchiveAhead

    def open_ahead(self, tp: TopicPartition, flush: Flush, offset: int) -> Opening:
        return self.log.open_ahead(tp, flush, offset)


def plain_read(read: ReadUnified, element: Element) -> Iterator[Emitted]:
    """What one undisturbed read gives, as (element, event time in microseconds)."""
    session = _Session(read, element, None)
    session.run(CallBudget(), _Never(), "plain read")
    yield from session.report().emitted
