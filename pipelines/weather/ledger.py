"""What readers and join do, written down by whatever process they are in, and read again when the job has ended."""

import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from beam_unified import ReadProgress
from beam_unified.clock import SYSTEM_CLOCK

EVENTS, STATE, JOINED = "events", "state", "joined"

Row = list[Any]


def append(folder: Path, kind: str, rows: Iterable[Row]) -> None:
    """Writes rows to a file of this thread."""
    path = folder / f"{kind}-{os.getpid()}-{threading.get_ident()}.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{json.dumps(row)}\n" for row in rows))


def rows(folder: Path, kind: str) -> Iterator[Row]:
    """All rows of a kind, file by file."""
    for path in sorted(folder.glob(f"{kind}-*.jsonl")):
        with path.open(encoding="utf-8") as file:
            yield from map(json.loads, file)


def note_progress(folder: Path, progress: ReadProgress) -> None:
    """For `ReadUnified(on_progress=...)`: a batch, or a reader that was held."""
    row = [SYSTEM_CLOCK.now_ms(), progress.topic, progress.partition, progress.records, progress.watermark]
    append(folder, EVENTS, [[*row, progress.held_by]])
