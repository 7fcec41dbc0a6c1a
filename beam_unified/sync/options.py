"""What users say about synchronisation: the group, gates, limits. Frozen, picklable values, checked when they are made.

`transforms` takes them; the rest of `sync` reads them. Nothing here connects to anything.
"""

import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Literal

from beam_unified.clock import SYSTEM_CLOCK, Clock, iso
from beam_unified.errors import ConfigError
from beam_unified.positions import Launch, duration_ms, instant_ms
from beam_unified.sync.coordinator import CoordinatorSource, InProcess
from beam_unified.sync.reports import NO_LIMIT, RateLimit

Duration = timedelta | str

WaitMode = Literal["closed", "not_past"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


class GateMode(Enum):
    """What a reader does before its gates are open."""

    CLOSED = "closed"
    """It reads nothing."""

    NOT_PAST = "not_past"
    """It reads its own history, up to the instant that it waits for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Wait until every partition of `topic` has an own watermark >= `until` (rule S3).

    Attributes:
        topic: Whom to wait for.
        until: Microseconds since the epoch.
    """

    topic: str
    until: int

    def __str__(self) -> str:
        return f"topic {self.topic!r} to reach {iso(self.until // 1_000)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderRules:
    """What holds for the readers of one topic beside the drift of the group.

    Attributes:
        gates: All must be open.
        mode: What readers do until then.
        limit: Their rate, until it is changed by the log.
    """

    gates: tuple[Gate, ...] = ()
    mode: GateMode = GateMode.CLOSED
    limit: RateLimit = NO_LIMIT


@dataclass(frozen=True)
class SyncGroup:
    """Topics that are read in step. Make one, and give it to every `ReadUnified` of the group as `sync=`.

    Args:
        name: Name of the group; part of the name of its topic where Kafka coordinates it.
        topics: Names of all topics of the group. One that nobody reads holds the others for ever.
        max_drift: How far a reader may be ahead of the slowest one, in event time (S2); None is as far as it gets.
        on_stale: What a member that has gone silent does to the others: "hold", or "ignore", by which they no longer
            wait for it with their drift. Gates always wait (S1).
        stale_after: How long a member must have said nothing before it counts as silent.
        report_interval: How often a member reports, beside what cannot wait.
        coordinator: How reports travel: `InProcess()`, or a Kafka topic where there are several workers.
        run_id: Names the run, so that runs never see each other. Given by a user only to go on with the run of a savepoint.
        clock: For tests.

    Raises:
        ConfigError: an option that cannot work.
    """

    name: str
    topics: Sequence[str]
    _: KW_ONLY
    max_drift: Duration | None = None
    on_stale: Literal["hold", "ignore"] = "hold"
    stale_after: Duration = timedelta(seconds=30)
    report_interval: Duration = timedelta(seconds=1)
    coordinator: CoordinatorSource = field(default_factory=InProcess)
    run_id: str = ""
    clock: Clock = field(default=SYSTEM_CLOCK, repr=False)
    launch_ms: int = field(init=False)

    def __post_init__(self) -> None:
        name, given = self._as_given()
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"SyncGroup name must be letters, digits, '.', '_' and '-', as it is part of a topic's name, got {self.name!r}."
            )
        if isinstance(given, str) or not isinstance(given, Sequence) or not given:
            raise ConfigError(f"SyncGroup topics must be a list of names, got {self.topics!r}.")
        for topic in self.topics:
            _text("topics", topic)
        if len(set(self.topics)) < len(self.topics):
            raise ConfigError(f"SyncGroup topics names a topic twice: {', '.join(self.topics)}.")
        if self.on_stale not in {"hold", "ignore"}:
            raise ConfigError(f"SyncGroup on_stale must be 'hold' or 'ignore', got {self.on_stale!r}.")
        if self.run_id != "":
            _text("run_id", self.run_id)
        setting = object.__setattr__
        setting(self, "topics", tuple(self.topics))
        setting(self, "max_drift", None if self.max_drift is None else _duration("max_drift", self.max_drift))
        setting(self, "stale_after", _duration("stale_after", self.stale_after))
        setting(self, "report_interval", _duration("report_interval", self.report_interval))
        setting(self, "run_id", self.run_id or uuid.uuid4().hex)
        setting(self, "launch_ms", self.clock.now_ms())
        if self.stale_after_ms < 3 * self.report_interval_ms:
            raise ConfigError(
                f"SyncGroup stale_after {self.stale_after} is less than three report intervals of {self.report_interval}: "
                "members would count as silent between two reports."
            )

    def _as_given(self) -> tuple[object, object]:
        """Name and topics, whatever they are."""
        return self.name, self.topics

    @property
    def drift(self) -> int | None:
        """`max_drift` in microseconds; None is without bound."""
        return None if self.max_drift is None else duration_ms(self.max_drift, "max_drift") * 1_000

    @property
    def stale_after_ms(self) -> int:
        """`stale_after` in milliseconds."""
        return duration_ms(self.stale_after, "stale_after")

    @property
    def report_interval_ms(self) -> int:
        """`report_interval` in milliseconds."""
        return duration_ms(self.report_interval, "report_interval")

    def rules(
        self,
        topics: Iterable[str],
        *,
        wait_for: Mapping[str, datetime | str | Launch] | None = None,
        mode: WaitMode = "closed",
        limit: RateLimit | None = None,
    ) -> ReaderRules:
        """Checks what one `ReadUnified` of the group says, and fixes its instants.

        Args:
            topics: What it reads.
            wait_for: Topic -> instant that all partitions of that topic must have reached first.
            mode: "closed" reads nothing before that; "not_past" reads up to the instant.
            limit: Rate of each of the topics, over all workers.

        Raises:
            ConfigError: a topic outside of the group, a topic that waits for itself, an instant that is none.
        """
        if outside := sorted(set(topics) - set(self.topics)):
            raise ConfigError(
                f"topic {outside[0]!r} is not in sync group {self.name!r} ({', '.join(self.topics)}): "
                "add it to the topics of the group, or read it without sync."
            )
        if mode not in {kind.value for kind in GateMode}:
            raise ConfigError(f"wait_for mode must be 'closed' or 'not_past', got {mode!r}.")
        if limit is not None and not isinstance(limit, RateLimit):
            raise ConfigError(f"rate_limit must be a RateLimit(records_per_s=..., bytes_per_s=...), got {limit!r}.")
        gates = tuple(
            Gate(topic=topic, until=self._until(topic, instant)) for topic, instant in (wait_for or {}).items()
        )
        for topic in topics:
            check_gates(self, {topic: gates})
        return ReaderRules(gates=gates, mode=GateMode(mode), limit=limit or NO_LIMIT)

    def _until(self, topic: str, instant: datetime | str | Launch) -> int:
        at_ms = self.launch_ms if isinstance(instant, Launch) else instant_ms(instant, f"wait_for topic {topic!r}")
        return at_ms * 1_000


def check_gates(group: SyncGroup, gates: Mapping[str, Iterable[Gate]]) -> None:
    """Refuses gates that can never open. For whoever knows every reader of the pipeline.

    Args:
        group: The group.
        gates: Waiting topic -> its gates.

    Raises:
        ConfigError: topics that wait for each other in a circle, a gate on a topic outside of the group.
    """
    waits_for = {topic: sorted({gate.topic for gate in found}) for topic, found in gates.items()}
    for topic, awaited in waits_for.items():
        for other in awaited:
            if other not in group.topics:
                raise ConfigError(
                    f"topic {topic!r} waits for topic {other!r}, which is not in sync group {group.name!r} "
                    f"({', '.join(group.topics)}): add it to the topics of the group."
                )
    for topic in waits_for:
        if circle := _circle(topic, waits_for):
            raise ConfigError(
                f"sync group {group.name!r}: topics wait for each other in a circle, {' -> '.join(circle)}: "
                "take one of these out of wait_for, or nothing will ever be read."
            )


def _circle(start: str, waits_for: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A way from a topic back to itself; empty where there is none."""
    ways: list[tuple[str, ...]] = [(start, other) for other in waits_for[start]]
    seen = set[str]()
    while ways:
        way = ways.pop()
        if way[-1] == start:
            return way
        if way[-1] not in seen:
            seen.add(way[-1])
            ways.extend((*way, other) for other in waits_for.get(way[-1], ()))
    return ()


def _text(option: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"SyncGroup {option} must be text that is not empty, got {value!r}.")


def _duration(option: str, value: object) -> timedelta:
    found = timedelta(milliseconds=duration_ms(value, f"SyncGroup {option}"))
    if not found:
        raise ConfigError(f"SyncGroup {option} must be at least a millisecond, got {value!r}.")
    return found
