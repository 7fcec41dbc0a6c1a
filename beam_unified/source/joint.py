"""One watermark for all partitions that a process reads: for runners that keep one estimate for a whole stage.

Prism 2.77 takes the watermark of a stage from the residuals of the bundle that ended last (`estimatedOutput`). A partition
that stands in another bundle, or waits to be resumed, or was found a moment ago, is forgotten meanwhile, and its records
come late. There every estimator reports the earliest watermark of all that are being read, so that it does not matter
which bundle ends last. Prism has one worker process, so this needs no messages; `sync` is for many.
"""

import threading
from collections.abc import Hashable


class JointWatermark:
    """The earliest watermark of the members of one transform. Thread safe. Microseconds; None is "not known yet"."""

    def __init__(self) -> None:
        """Nobody is a member yet."""
        self._lock = threading.Lock()
        self._members: dict[Hashable, int | None] = {}
        self._earliest: int | None = None

    def expect(self, member: Hashable, micros: int | None) -> None:
        """A member that has reported nothing so far holds the others here. Nothing happens if it is one already."""
        with self._lock:
            self._members.setdefault(member, micros)

    def report(self, member: Hashable, micros: int | None) -> None:
        """The member's own watermark."""
        with self._lock:
            self._members[member] = micros

    def leave(self, member: Hashable) -> None:
        """The member has nothing more to emit."""
        with self._lock:
            self._members.pop(member, None)

    def earliest(self, own: int | None) -> int | None:
        """What a member whose own watermark is `own` may report. Never goes back."""
        with self._lock:
            known = [micros for micros in self._members.values() if micros is not None]
            if own is None or len(known) < len(self._members):
                return self._earliest
            earliest = min([own, *known])
            if self._earliest is None or earliest > self._earliest:
                self._earliest = earliest
            return self._earliest


_joint: dict[str, JointWatermark] = {}
_joint_lock = threading.Lock()


def begin(key: str) -> JointWatermark:
    """A new one, when a job begins: the same transform may have run before in this process."""
    with _joint_lock:
        _joint[key] = JointWatermark()
        return _joint[key]


def joint_watermark(key: str) -> JointWatermark:
    """That of a transform in this process. Kept as long as the process: a bundle that ends must not take it along."""
    with _joint_lock:
        return _joint.setdefault(key, JointWatermark())
