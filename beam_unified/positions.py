"""Where to start and where to stop, as users say it. Pure values; resolved to offsets by `reading.resolve`.

| say                                | the reader begins (ends) at                                      | Kafka's word            |
| ---------------------------------- | ---------------------------------------------------------------- | ----------------------- |
| `Start.earliest()`                 | first offset that archive or Kafka holds                         | earliest                |
| `Start.latest()`                   | end offset when the partition is first looked at, then kept      | latest                  |
| `Start.offsets({0: 42})`           | exactly that offset                                              | seek                    |
| `Start.at(instant)`                | first offset whose Kafka timestamp is >= instant, over both      | offsets_for_times       |
| `Start.before_now("7d")`           | `Start.at(now - 7 days)`, now taken once, at construction        |                         |
| `Stop.offsets({0: 99})`            | before that offset (exclusive)                                   |                         |
| `Stop.at(instant)`                 | before the first offset whose Kafka timestamp is >= instant      |                         |
| `Stop.now()`                       | `Stop.at(now)`, now taken once, at construction                  |                         |

No record at or after the instant: `Start.at` begins at the end offset. `Stop.at` with an instant in the past ends at the
end offset of that moment; with one in the future it waits for a record at or after it, or until the clock has passed
it with nothing left to read (rule R6).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, assert_never

from beam_unified.clock import iso, to_ms
from beam_unified.errors import ConfigError
from beam_unified.offsets import MAX_OFFSET

_DURATION = re.compile(r"(?P<count>\d+)(?P<unit>[smhdw])")
_UNIT = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True)
class Earliest:
    """The first offset that either store holds."""


@dataclass(frozen=True, slots=True)
class Latest:
    """The end offset."""


@dataclass(frozen=True, slots=True)
class AtTimestamp:
    """The first offset whose Kafka timestamp is >= `timestamp_ms` (milliseconds since the epoch)."""

    timestamp_ms: int

    def __str__(self) -> str:
        return iso(self.timestamp_ms)


@dataclass(frozen=True, slots=True)
class BeforeNow:
    """An instant `before_ms` milliseconds before now; becomes `AtTimestamp` when the pipeline is built."""

    before_ms: int


@dataclass(frozen=True, slots=True)
class Launch:
    """The moment when the pipeline is built; for a sync group, when the group is made (rule R6)."""

    def __repr__(self) -> str:
        return "LAUNCH"


LAUNCH = Launch()
"""The moment when the pipeline is built, the same for all topics of a sync group."""


@dataclass(frozen=True, slots=True)
class AtOffsets:
    """Exact offsets, as (partition, offset) pairs."""

    offsets: tuple[tuple[int, int], ...]

    def get(self, partition: int) -> int | None:
        """The offset of a partition; None where none was given."""
        return dict(self.offsets).get(partition)

    def check_covers(self, topic: str, partitions: Iterable[int], *, option: str) -> None:
        """Raises ConfigError unless exactly the topic's partitions are named."""
        existing, named = set(partitions), {partition for partition, _ in self.offsets}
        if unknown := sorted(named - existing):
            raise ConfigError(
                f"{option} names partition {unknown[0]} of topic {topic!r}, which has partitions "
                f"{min(existing)} to {max(existing)}: correct the number."
            )
        if missing := sorted(existing - named):
            raise ConfigError(
                f"{option} gives no offset for partition {missing[0]} of topic {topic!r} "
                f"({len(missing)} of {len(existing)} are missing): name every partition, so that none is left out by accident."
            )


@dataclass(frozen=True, slots=True)
class AtTopicOffsets:
    """Exact offsets of several topics, as (topic, offsets) pairs."""

    topics: tuple[tuple[str, AtOffsets], ...]

    def get(self, topic: str) -> AtOffsets | None:
        """The offsets of a topic; None where none were given."""
        return dict(self.topics).get(topic)


StartPosition = Earliest | Latest | AtOffsets | AtTopicOffsets | AtTimestamp | BeforeNow
PinnedStart = Earliest | Latest | AtOffsets | AtTopicOffsets | AtTimestamp
StopPosition = AtOffsets | AtTopicOffsets | AtTimestamp | BeforeNow
PinnedStop = AtOffsets | AtTopicOffsets | AtTimestamp

TopicStart = Earliest | Latest | AtOffsets | AtTimestamp
TopicStop = AtOffsets | AtTimestamp

OffsetsByPartition = Mapping[int, int]
OffsetsByTopic = Mapping[str, Mapping[int, int]]


class Start:
    """Where to start."""

    @staticmethod
    def earliest() -> StartPosition:
        """The first offset that either store holds."""
        return Earliest()

    @staticmethod
    def latest() -> StartPosition:
        """The end offset of each partition when it is first looked at; kept over restarts."""
        return Latest()

    @staticmethod
    def offsets(offsets: OffsetsByPartition | OffsetsByTopic) -> StartPosition:
        """Exact offsets: partition number -> offset of the first record wanted. Every partition must be named.

        For several topics: name -> such a mapping, and every topic must be named.
        """
        return _offsets(offsets, "Start.offsets")

    @staticmethod
    def at(instant: datetime | str) -> StartPosition:
        """First offset whose Kafka timestamp is >= `instant`: an aware datetime, or ISO 8601 with a zone."""
        return AtTimestamp(instant_ms(instant, "Start.at"))

    @staticmethod
    def before_now(duration: timedelta | str) -> StartPosition:
        """That long before the pipeline is built: a timedelta, or "90s", "15m", "12h", "7d", "2w"."""
        return BeforeNow(duration_ms(duration, "Start.before_now"))


class Stop:
    """Where to stop. The offset or instant itself is not read any more."""

    @staticmethod
    def offsets(offsets: OffsetsByPartition | OffsetsByTopic) -> StopPosition:
        """Exact offsets: partition number -> offset of the first record NOT wanted. Every partition must be named.

        For several topics: name -> such a mapping, and every topic must be named.
        """
        return _offsets(offsets, "Stop.offsets")

    @staticmethod
    def at(instant: datetime | str) -> StopPosition:
        """Before the first offset whose Kafka timestamp is >= `instant`."""
        return AtTimestamp(instant_ms(instant, "Stop.at"))

    @staticmethod
    def now() -> StopPosition:
        """The moment when the pipeline is built, the same for all partitions."""
        return BeforeNow(0)


def pin_start(position: StartPosition, now_ms: int) -> PinnedStart:
    """Fixes a relative start at `now_ms`."""
    match position:
        case BeforeNow(before_ms):
            return AtTimestamp(now_ms - before_ms)
        case Earliest() | Latest() | AtOffsets() | AtTopicOffsets() | AtTimestamp():
            return position
        case _:
            assert_never(position)


def pin_stop(position: StopPosition, now_ms: int) -> PinnedStop:
    """Fixes a relative stop at `now_ms`."""
    match position:
        case BeforeNow(before_ms):
            return AtTimestamp(now_ms - before_ms)
        case AtOffsets() | AtTopicOffsets() | AtTimestamp():
            return position
        case _:
            assert_never(position)


def check_order(start: PinnedStart, stop: PinnedStop | None) -> None:
    """Raises ConfigError where start and stop can be compared without looking, and start is after stop."""
    if isinstance(start, AtTimestamp) and isinstance(stop, AtTimestamp) and start.timestamp_ms > stop.timestamp_ms:
        raise ConfigError(f"start {start} is after stop {stop}: swap them, or move the stop.")
    if isinstance(start, AtTopicOffsets) and isinstance(stop, AtTopicOffsets):
        for topic, offsets in start.topics:
            _check_offsets_order(offsets, stop.get(topic), f"topic {topic!r}, ")
    if isinstance(start, AtOffsets) and isinstance(stop, AtOffsets):
        _check_offsets_order(start, stop, "")


def _check_offsets_order(start: AtOffsets, stop: AtOffsets | None, topic: str) -> None:
    if stop is not None:
        for partition, offset in start.offsets:
            limit = stop.get(partition)
            if limit is not None and offset > limit:
                raise ConfigError(f"{topic}partition {partition}: start offset {offset} is after stop offset {limit}.")


def start_of(position: PinnedStart, topic: str) -> TopicStart:
    """What a start says of one topic. Raises ConfigError where it names other topics and not this one."""
    return _named(position, topic, "start") if isinstance(position, AtTopicOffsets) else position


def stop_of(position: PinnedStop, topic: str) -> TopicStop:
    """What a stop says of one topic. Raises ConfigError where it names other topics and not this one."""
    return _named(position, topic, "stop") if isinstance(position, AtTopicOffsets) else position


def _named(offsets: AtTopicOffsets, topic: str, option: str) -> AtOffsets:
    found = offsets.get(topic)
    if found is None:
        raise ConfigError(f"{option} gives no offsets for topic {topic!r}: name every topic that is read.")
    return found


def _offsets(offsets: OffsetsByPartition | OffsetsByTopic, option: str) -> AtOffsets | AtTopicOffsets:
    if offsets and all(isinstance(key, str) for key in offsets):
        by_topic: Any = offsets
        found = ((topic, _partition_offsets(inner, f"{option}, topic {topic!r}")) for topic, inner in by_topic.items())
        return AtTopicOffsets(tuple(sorted(found, key=lambda pair: pair[0])))
    return _partition_offsets(offsets, option)


def _partition_offsets(offsets: Any, option: str) -> AtOffsets:
    if not isinstance(offsets, Mapping):
        raise ConfigError(
            f"{option} takes partition number -> offset, or topic -> partition -> offset, got {offsets!r}."
        )
    if not offsets:
        raise ConfigError(f"{option} needs at least one partition.")
    for partition, offset in offsets.items():
        if not _is_number(partition) or partition < 0:
            raise ConfigError(f"{option}: partition must be a number >= 0, got {partition!r}.")
        if not _is_number(offset) or not 0 <= offset <= MAX_OFFSET:
            raise ConfigError(f"{option}: offset of partition {partition} must be 0 to 2^63 - 1, got {offset!r}.")
    return AtOffsets(tuple(sorted(offsets.items())))


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def instant_ms(instant: object, option: str) -> int:
    """Milliseconds since the epoch of an instant as users write it. Raises ConfigError that names the option."""
    if isinstance(instant, str):
        try:
            instant = datetime.fromisoformat(instant)
        except ValueError:
            raise ConfigError(
                f"{option}: {instant!r} is not ISO 8601; write for example '2026-11-16T00:00:00Z'."
            ) from None
    if not isinstance(instant, datetime):
        raise ConfigError(f"{option} takes an aware datetime or ISO 8601 text, got {instant!r}.")
    if instant.tzinfo is None:
        raise ConfigError(
            f"{option}: {instant.isoformat()} has no time zone; add one, for example '{instant.isoformat()}Z' or tzinfo=UTC."
        )
    return to_ms(instant)


def duration_ms(duration: object, option: str) -> int:
    """Milliseconds of a duration as users write it, rounded down. Raises ConfigError that names the option."""
    if isinstance(duration, str):
        match = _DURATION.fullmatch(duration.strip())
        if match is None:
            raise ConfigError(
                f"{option}: {duration!r} is not a duration; write for example '90s', '15m', '12h', '7d', '2w'."
            )
        try:
            duration = timedelta(**{_UNIT[match["unit"]]: int(match["count"])})
        except OverflowError:
            raise ConfigError(f"{option}: {duration!r} is longer than time goes back.") from None
    if not isinstance(duration, timedelta):
        raise ConfigError(f"{option} takes a timedelta or text such as '7d', got {duration!r}.")
    if duration < timedelta(0):
        raise ConfigError(f"{option}: a duration must not be negative, got {duration}.")
    return duration // timedelta(milliseconds=1)
