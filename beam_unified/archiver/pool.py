"""The archivers of a worker process, kept between calls: a flush in the making outlives the call that began it.

Jobs (uploads, listings, somebody's open claim) run in two threads, so that a call that drives an archiver only looks whether its
job is done (R8). What nobody asks for is closed: its partition is archived elsewhere now, and what it had not committed is
read there again. Not before a flush that was begun at its last call would be due, and five minutes more: so calls that come up
to five minutes apart write every flush. A flush in the making that is dropped is said.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from beam_unified.archiver.archiver import PartitionArchiver, run
from beam_unified.clock import Clock
from beam_unified.offsets import TopicPartition
from beam_unified.shared import Repeating, Shared

_LOGGER = logging.getLogger(__name__)

_PATIENCE = timedelta(minutes=5)  # with a runner that calls late, once a flush is due
_THREADS = 2  # uploads at a time: the network is shared, and each holds a flush on disk


@dataclass(slots=True)
class Working:
    """An archiver and its job, while one call drives it.

    Attributes:
        archiver: The archiver. Not to be touched while `busy`.
        offset: What of its flushes has been given out.
    """

    archiver: PartitionArchiver
    offset: int
    executor: ThreadPoolExecutor
    job: "Future[None] | None" = None
    last_used: float = 0.0

    @property
    def busy(self) -> bool:
        """Whether a job is running, or its end was not noticed yet."""
        return self.job is not None

    def advance(self, stop: int | None, timeout_ms: int) -> bool:
        """One step: begins a job, notices its end, or fetches. False where there was nothing to do but to wait so long.

        Raises whatever the job raised.
        """
        if self.job is not None:
            wait([self.job], timeout_ms / 1_000)
            if not self.job.done():
                return False
            job, self.job = self.job, None
            job.result()
            return True
        if self.archiver.wants_job(stop):
            self.job = self.executor.submit(_do, self.archiver, stop)
            return True
        return self.archiver.read(stop, timeout_ms=timeout_ms)

    def close(self) -> None:
        """Closes the archiver, when its job is done."""
        if self.job is None:
            self.archiver.close()
        else:
            self.job.add_done_callback(lambda _: self.archiver.close())


def _do(archiver: PartitionArchiver, stop: int | None) -> None:
    job = archiver.job(stop)
    if job is not None:
        run(job)


class ArchiverPool:
    """Archivers of one transform in one process. Thread safe.

    Args:
        clock: For what is idle.
        flush_interval: Of the archivers: they are kept that long between two calls, and five minutes more.
    """

    def __init__(self, clock: Clock, flush_interval: timedelta) -> None:
        """Nothing is open yet."""
        self._clock = clock
        self._close_after_s = (flush_interval + _PATIENCE).total_seconds()
        self._lock = threading.Lock()
        self._idle: dict[TopicPartition, Working] = {}
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="beam-unified-archiver")
        self._reaper = Repeating(self._lock, self._close_after_s, self._close_stale, lambda: bool(self._idle))

    @contextmanager
    def lease(self, tp: TopicPartition, offset: int, make: Callable[[], PartitionArchiver]) -> Iterator[Working]:
        """The archiver of a partition, for this call alone. One that raised is closed; so is one that stands elsewhere.

        Args:
            tp: Topic partition.
            offset: Up to where its flushes have been given out: another number is another attempt of the runner.
            make: Makes one.
        """
        with self._lock:
            found = self._idle.pop(tp, None)  # first: what is asked for is not stale
        self._close_stale()
        if found is not None and found.offset != offset:
            found.close()
            found = None
        working = found or Working(make(), offset, self._executor)
        try:
            yield working
        except BaseException:
            working.close()
            raise
        working.last_used = self._clock.monotonic()
        with self._lock:
            replaced = self._idle.pop(tp, None)
            self._idle[tp] = working
            self._reaper.check()
        if replaced is not None:
            replaced.close()

    def done(self, tp: TopicPartition) -> None:
        """Closes the archiver of a partition that has come to its end."""
        with self._lock:
            working = self._idle.pop(tp, None)
        if working is not None:
            working.close()

    def close(self) -> None:
        """Closes all of them, for good; jobs are let run to their end."""
        self.close_idle()
        self._executor.shutdown(wait=True)

    def close_idle(self) -> None:
        """Closes those that no call drives; those with a job when it has ended."""
        with self._lock:
            self._reaper.stop()
            closing, self._idle = list(self._idle.values()), {}
        for working in closing:
            working.close()

    def _close_stale(self) -> None:
        horizon = self._clock.monotonic() - self._close_after_s
        with self._lock:
            stale = [tp for tp, working in self._idle.items() if working.last_used < horizon]
            closing = [(tp, self._idle.pop(tp)) for tp in stale]
        for tp, working in closing:
            if not working.busy and working.archiver.unwritten:
                _LOGGER.warning(
                    "%s: no call for %.0f s: %d records read up to offset %d and not committed are dropped. Whoever archives "
                    "the partition now reads them again; where that is this worker, its runner calls too rarely.",
                    tp, self._close_after_s, working.archiver.unwritten, working.archiver.read_up_to,
                )  # fmt: skip
            working.close()


POOLS: Shared[ArchiverPool] = Shared()
"""Of this process, by the key of the transform."""


def close_all() -> None:
    """Closes what every pool of this process holds idle. Pools stay usable. For the end of a process, and of tests."""
    for pool in POOLS.all():
        pool.close_idle()
