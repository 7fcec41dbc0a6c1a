"""Reading ahead in threads: the next rows of a flush while the last ones are used, and the next flush while one is read.

Nothing here moves a position. What was read ahead is given in its turn, an error too; what nobody wants any more is thrown away. It
is bounded by its depth, in items; how large those are is the business of `reader`. A task is one item or one flush, and none
waits for another, so a few threads serve any number of readers. They live until `Threads.close`.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from beam_unified.stores import FlushReader

_T = TypeVar("_T")

_THREADS = 4  # they wait for storage, or decode without the interpreter's lock

THREAD_NAME = "beam-unified-ahead"
"""What the names of the threads begin with."""


class Threads:
    """The threads of one connected archive, made when they are first needed. Thread safe."""

    def __init__(self) -> None:
        """None yet."""
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._closed = False

    def submit(self, task: Callable[[], _T]) -> "Future[_T]":
        """Runs a task as soon as a thread is free; once closed, here and now."""
        with self._lock:
            if not self._closed:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix=THREAD_NAME)
                return self._pool.submit(task)
        done: Future[_T] = Future()
        try:
            done.set_result(task())
        except BaseException as error:  # noqa: BLE001 - as a thread would
            done.set_exception(error)
        return done

    def close(self) -> None:
        """Waits for what runs, and ends the threads. Idempotent."""
        with self._lock:
            self._closed = True
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()


class ReadAhead(Generic[_T]):
    """An iterator run by threads, a few items ahead of whoever takes them. One taker; `close` may come from another thread."""

    def __init__(self, items: Iterator[_T], threads: Threads, depth: int) -> None:
        """Starts with the first item; goes `depth` ahead once that was taken, so that what is not read yet holds little."""
        self._items, self._threads = items, threads
        self._depth, self._full_depth = 1, depth
        self._changed = threading.Condition()
        self._ready: deque[_T] = deque()
        self._running = self._ended = False
        self._failure: BaseException | None = None
        with self._changed:
            self._go_on()

    def __iter__(self) -> "ReadAhead[_T]":
        return self

    def __next__(self) -> _T:
        with self._changed:
            self._depth = self._full_depth
            self._changed.wait_for(lambda: self._ready or not self._running)
            if self._ready:
                item = self._ready.popleft()
                self._go_on()
                return item
            if self._failure is not None:
                raise self._failure
            raise StopIteration

    def close(self) -> None:
        """Waits for the item that is being read, if one is, and drops what is there. Idempotent."""
        with self._changed:
            self._ended = True
            self._changed.wait_for(lambda: not self._running)
            self._ready.clear()
            self._items = iter(())

    def _go_on(self) -> None:
        """Called with the lock held: nothing runs, or one task does."""
        if not self._running and not self._ended and len(self._ready) < self._depth:
            self._running = True
            self._threads.submit(self._read)

    def _read(self) -> None:
        """One item."""
        found: list[_T] = []
        failure: BaseException | None = None
        try:
            found.append(next(self._items))
        except StopIteration:
            pass
        except BaseException as error:  # noqa: BLE001 - whoever takes the item gets it
            failure = error
        with self._changed:
            self._ready.extend(found)
            self._failure = failure
            self._ended = self._ended or not found
            self._running = False
            self._go_on()
            self._changed.notify_all()


class Opening:
    """A flush that is being opened. Implements `stores.Opening`."""

    def __init__(self, threads: Threads, open_flush: Callable[[], FlushReader]) -> None:
        """Begins."""
        self._future = threads.submit(open_flush)

    def take(self) -> FlushReader:
        """The flush, which is the caller's to close from now on; raises what opening it raised."""
        return self._future.result()

    def close(self) -> None:
        """Nobody wants it: it is closed as soon as it is open, or not opened at all."""
        if not self._future.cancel():
            self._future.add_done_callback(_close)


def _close(opened: "Future[FlushReader]") -> None:
    if opened.exception() is None:
        opened.result().close()
