"""A range of one partition from end to end, for whoever has time to wait: the command line, not a runner's call.

It drives a `LogReader` as `source.call` does, without claims, watermarks or budgets.
"""

from collections.abc import Iterator

from beam_unified.clock import Clock
from beam_unified.errors import KafkaUnavailableError
from beam_unified.offsets import TopicPartition
from beam_unified.reading.reader import Gap, Lineage, LogReader, NothingYet, Progress

_FETCH_RECORDS = 10_000
_FETCH_TIMEOUT_MS = 250
SILENCE_S = 30.0
"""What a bounded scan takes without a record or an answer."""


def scan(
    reader: LogReader,
    tp: TopicPartition,
    start: int,
    stop: int | None,
    *,
    clock: Clock,
    patience_s: float | None = SILENCE_S,
    timeout_ms: int = _FETCH_TIMEOUT_MS,
) -> Iterator[Progress | Gap | NothingYet]:
    """Every step from `start` to `stop`; each `Progress` and `Gap` lies inside of the range.

    `NothingYet` is passed on too, so that a caller may turn to another partition.

    Args:
        reader: The partition's; not closed.
        tp: For errors.
        start: First offset.
        stop: Offset not to reach; None goes on for ever.
        clock: For patience.
        patience_s: How long a bounded scan takes nothing for an answer below its stop; None is without limit.
        timeout_ms: How long one step waits where there is nothing yet.

    Raises:
        DataLossError: see `LogReader.read`.
        StoreError: a store that does not answer; KafkaUnavailableError when patience is over.
    """
    at, silent_s, lineage = start, 0.0, Lineage()
    while stop is None or at < stop:
        asked_at = clock.monotonic()
        step = reader.read(at, stop=stop, max_records=_FETCH_RECORDS, timeout_ms=timeout_ms, lineage=lineage)
        if not isinstance(step, NothingYet):
            at, silent_s = step.next_offset, 0.0
            lineage = Lineage(leader_epoch=step.leader_epoch if isinstance(step, Progress) else None)
        else:
            clock.wait(
                max(0.0, timeout_ms / 1_000 - (clock.monotonic() - asked_at))
            )  # in front of a gap nothing else does
            silent_s += clock.monotonic() - asked_at  # and not what the caller took between two steps
            if stop is not None and patience_s is not None and silent_s > patience_s:
                raise KafkaUnavailableError(
                    f"{tp}: Kafka gave nothing at offset {at} for {patience_s:.0f} s, although {stop} was asked for: an open "
                    "transaction holds the rest, the stop is still to come, or the brokers are down."
                )
        yield step
