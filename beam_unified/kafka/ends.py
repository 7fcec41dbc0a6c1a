"""Whether a partition's end was made sure of: an empty poll looks the same when the broker is dead (T2). Any client's."""

import logging
from collections.abc import Callable

from beam_unified.clock import Clock
from beam_unified.errors import KafkaSecurityError, KafkaUnavailableError
from beam_unified.offsets import TopicPartition
from beam_unified.records import Batch
from beam_unified.stores import Fetched

_LOGGER = logging.getLogger(__name__)

_CHECK_INTERVAL_S = 1.0  # how often a caught-up reader asks the broker whether it is still alive and at the end
_SILENCE_LIMIT_S = 120.0  # a broker silent for so long is an error: the runner's retry is the better place to wait


class EndCheck:
    """What is known of the end of the partition that a connection reads. Not thread safe."""

    def __init__(self, ask: Callable[[TopicPartition], int], clock: Clock) -> None:
        """Knows nothing yet.

        Args:
            ask: Asks the broker for the end offset. Raises KafkaUnavailableError, before long.
            clock: For how long ago.
        """
        self._ask = ask
        self._clock = clock
        self._answered_at = clock.monotonic()
        self._checked_at: float | None = None
        self._seen: int | None = None
        self._behind_since: float | None = None

    def begin(self) -> None:
        """Another partition is read from now on."""
        self._answered_at, self._checked_at, self._behind_since = self._clock.monotonic(), None, None

    def behind_s(self) -> float:
        """For how long the broker has said that there is more, while no fetch brought any."""
        return 0.0 if self._behind_since is None else self._clock.monotonic() - self._behind_since

    def fetched(
        self,
        tp: TopicPartition,
        offset: int,
        *,
        batch: Batch | None,
        position: int,
        high_watermark: int | None,
        leader_epoch: int | None,
    ) -> Fetched:
        """What one fetch at `offset` brought, with whether the log ends there.

        Raises:
            KafkaUnavailableError: no answer for two minutes. Until then it waits, and says so.
        """
        now = self._clock.monotonic()
        if batch is not None or position != offset:
            self._answered_at, self._checked_at, self._behind_since = now, None, None
            at_end = False
        else:
            self._check(tp, now)
            if self._seen is None or self._seen <= position:
                self._behind_since = None
            elif self._behind_since is None:
                self._behind_since = now
            at_end = position == high_watermark == self._seen
        return Fetched(
            batch=batch,
            next_offset=position,
            high_watermark=high_watermark,
            at_end=at_end,
            checked_s_ago=now - self._answered_at if at_end else 0.0,
            leader_epoch=leader_epoch,
        )

    def _check(self, tp: TopicPartition, now: float) -> None:
        """Asks, if nobody has just asked."""
        if self._checked_at is not None and now - self._checked_at < _CHECK_INTERVAL_S:
            return
        self._checked_at = now
        try:
            self._seen = self._ask(tp)
            self._answered_at = now
        except KafkaSecurityError:
            raise
        except KafkaUnavailableError as error:
            self._seen = None
            if now - self._answered_at > _SILENCE_LIMIT_S:
                raise
            _LOGGER.warning("%s: no answer from Kafka for %.0f s, waiting: %s", tp, now - self._answered_at, error)
