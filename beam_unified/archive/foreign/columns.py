"""What a reader of a foreign format gives: some records of a file, a column each. Values only."""

from collections.abc import Sequence
from typing import NamedTuple

Headers = tuple[tuple[str, bytes | None], ...]


class Columns(NamedTuple):
    """Some records, in the order of the file. A column that the file does not hold is None.

    Attributes:
        values: Values; None in it is a tombstone.
        offsets: Kafka's offsets.
        keys: Keys.
        timestamps: Milliseconds since the epoch.
        headers: Headers.
    """

    values: Sequence[bytes | None]
    offsets: Sequence[int] | None = None
    keys: Sequence[bytes | None] | None = None
    timestamps: Sequence[int | None] | None = None
    headers: Sequence[Headers] | None = None
