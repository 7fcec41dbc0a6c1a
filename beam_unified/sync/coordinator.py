"""How reports travel: one log per run of a group, that every worker writes to and reads whole. And the log in one process.

`CoordinatorSource` is a description that travels with the pipeline; `connect` makes the living half on a worker. All
implementations obey tests/contracts/coordinator.py.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from beam_unified.clock import SYSTEM_CLOCK, Clock
from beam_unified.offsets import TopicPartition
from beam_unified.sync.reports import Entry, Logged, Report


class Coordinator(Protocol):
    """A worker's connection to the log of one run. Thread safe. No method waits for input or output."""

    def publish(self, entry: Entry) -> None:
        """Hands an entry over. It comes back through `drain` once the log has it; an older one of the same subject may not."""
        ...

    def drain(self) -> Sequence[Logged]:
        """What the log has taken since the last call, in its order, which is the same for every worker.

        Of what is older than the connection: the newest entry of each subject at least.
        """
        ...

    def caught_up(self) -> bool:
        """Whether everything that the log held when the connection was made has been handed out by `drain`.

        Never goes back to False: a log that is lost later is missing news, not a new beginning.
        """
        ...

    def close(self) -> None:
        """Ends the connection. Idempotent."""
        ...


class CoordinatorSource(Protocol):
    """Description of a coordinator: frozen, picklable, without a connection."""

    def connect(self, group: str, run_id: str) -> Coordinator:
        """Joins the log of a run. Returns at once; the log may be reached later."""
        ...


def subject(entry: Entry) -> TopicPartition | str:
    """What an entry is about: a newer one about the same replaces it."""
    return entry.member if isinstance(entry, Report) else entry.topic


@dataclass(frozen=True, slots=True)
class InProcess:
    """The log in memory, for pipelines whose readers all live in one process: DirectRunner, tests, one worker.

    Trap: on several workers each has a log of its own, lacks the members of the others, and holds for ever.
    """

    clock: Clock = SYSTEM_CLOCK

    def connect(self, group: str, run_id: str) -> Coordinator:
        """Joins the log of the run in this process; the first one makes it."""
        with _logs_lock:
            return _Connection(_logs.setdefault((group, run_id), _Log()), self.clock)


@dataclass(slots=True)
class _Log:
    """Newest entries in the order in which they came, and what each connection has not yet read."""

    newest: dict[TopicPartition | str, Logged] = field(default_factory=dict)
    unread: dict[int, deque[Logged]] = field(default_factory=dict)


# Kept until the process ends, an entry a member: a runner may tear the readers of one topic down, which are done, before it
# sets up those of the next.
_logs: dict[tuple[str, str], _Log] = {}
_logs_lock = threading.Lock()  # one for all: what is done under it is short


class _Connection:
    """Implements `Coordinator`."""

    def __init__(self, log: _Log, clock: Clock) -> None:
        self._log, self._clock, self._drained = log, clock, False
        log.unread[id(self)] = deque(log.newest.values())

    def publish(self, entry: Entry) -> None:
        with _logs_lock:
            about = subject(entry)
            self._log.newest.pop(about, None)  # so that it goes to the end
            self._log.newest[about] = logged = Logged(entry, self._clock.now_ms())
            for unread in self._log.unread.values():
                unread.append(logged)

    def drain(self) -> Sequence[Logged]:
        with _logs_lock:
            self._drained = True
            unread = self._log.unread.get(id(self))
            if not unread:
                return ()
            self._log.unread[id(self)] = deque()
            return tuple(unread)

    def caught_up(self) -> bool:
        return self._drained

    def close(self) -> None:
        with _logs_lock:
            self._log.unread.pop(id(self), None)
