"""How much one call of `process` does. Pure: given what was done and how long it took, whether to stop (rule R8).

A call that is too long blocks checkpoint barriers on Flink and delays every other partition on Prism; one that is too
short pays for a self-checkpoint per handful of records. Measured on Flink, 0.1 to 0.2 s is the place to be.
"""

from dataclasses import dataclass

_SMALLEST, _FIRST = 16, 1_024  # records in a batch
_BATCHES_PER_CALL = 5  # a claimed batch cannot be interrupted: keep it a fraction of the call's time


@dataclass(frozen=True, slots=True, kw_only=True)
class CallBudget:
    """Limits of one call, whichever is reached first.

    Attributes:
        records: Number of records.
        size_bytes: Bytes of keys and values, about.
        seconds: Time, downstream stages that are fused with the source included.
        batch_records: Largest number of records claimed at a time.
    """

    records: int = 200_000
    size_bytes: int = 64 * 1024 * 1024
    seconds: float = 0.15
    batch_records: int = 4_096

    @classmethod
    def of_columns(cls) -> "CallBudget":
        """For output that costs next to nothing a record: bytes and time are the limits."""
        return cls(records=10_000_000, batch_records=65_536)

    def spent(self, *, records: int, size_bytes: int, seconds: float) -> bool:
        """Whether the call should end here."""
        return records >= self.records or size_bytes >= self.size_bytes or seconds >= self.seconds


@dataclass(frozen=True, slots=True)
class Pace:
    """How many records to claim at a time, so that a claimed batch takes a part of the budget and no more.

    What follows the source decides how fast a batch goes; a slow stage makes batches small.
    """

    records: int = _FIRST

    def after(self, *, records: int, seconds: float, budget: CallBudget) -> "Pace":
        """The pace to go on with, after a batch of `records` took `seconds`."""
        if records == 0:
            return self
        fitting = self.records * 2
        if seconds > 0:
            fitting = min(fitting, int(records * budget.seconds / _BATCHES_PER_CALL / seconds))
        return Pace(max(_SMALLEST, fitting))
