"""Damaged files of every format of other tools: `python -m tests.fuzz --minutes 60`. The ordinary tests run some of it.

What a reader makes of any bytes is records or BadFileError, which the archive turns into an error that names the file; within
`TIMEOUT_S`, and within `MEMORY_BYTES` beyond what the process had. Cases are made of a seed and a number, so that one that failed
can be run again: `--seed 7 --only 1234`. They run in a process of their own, which such a case may kill.
"""

import argparse
import faulthandler
import multiprocessing
import random
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection

from beam_unified.archive.foreign.codecs import BadFileError
from beam_unified.archive.foreign.columns import Columns
from tests.foreign_samples import Sample, samples

TIMEOUT_S = 30
MEMORY_BYTES = 512 * 1024 * 1024
_ADDRESS_BYTES = 4 * 1024 * 1024 * 1024
_EXTREMES = [
    b"\x00\x00\x00\x00", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00", b"\xff\xff\xff\xff\x0f",
    b"\xff" * 9 + b"\x01", b"\xfe" + b"\xff" * 8 + b"\x01", b"\x80" * 12, b"\xff\xff\xff\x7f", b"[" * 300,
    b"\n" * 50, b"\x8f", b"\x8c",
]  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a case: "records", "error", or what must not be."""

    number: int
    name: str
    what: str
    detail: str = ""

    @property
    def good(self) -> bool:
        return self.what in {"records", "error"}


def damaged(sample: Sample, others: list[Sample], rng: random.Random) -> bytes:
    """The file's bytes, changed in one to four places; of one compressed as a whole, often the bytes inside."""
    inside = bool(sample.plain) and rng.random() < 0.6
    content = bytearray(sample.plain if inside else sample.content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        _change(content, rng.choice(others).content, rng)
    return sample.pack(bytes(content)) if inside else bytes(content)


def _change(content: bytearray, other: bytes, rng: random.Random) -> None:
    # lengths are where files begin and end
    edge = min(len(content), 64)
    at = rng.choice([rng.randint(0, len(content)), rng.randint(0, edge), len(content) - rng.randint(0, edge)])
    length = rng.choice([1, 1, 2, 4, 8, rng.randint(0, len(content))])
    match rng.choice([0, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 7]):
        case 0 if at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        case 1 if at < len(content):
            content[at] = rng.randrange(256)
        case 2:
            piece = rng.choice(_EXTREMES)
            content[at : at + len(piece)] = piece
        case 3:
            content[at:at] = rng.choice(_EXTREMES)
        case 4:
            del content[at : at + length]
        case 5:
            del content[at:]
        case 6:
            content[at:at] = content[at : at + length]
        case _:
            begin = rng.randint(0, len(other))
            content[at : at + length] = other[begin : begin + length]


def check(sample: Sample, content: bytes) -> tuple[str, str]:
    """What a reader makes of these bytes."""
    try:
        for columns in sample.read(content):
            problem = _wrong(columns)
            if problem:
                return "columns", problem
    except BadFileError as error:
        return ("error", "") if str(error) else ("silent error", repr(error))
    except BaseException as error:  # noqa: BLE001 - that there is no other is the rule
        return "exception", f"{type(error).__name__}: {error}"[:300]
    return "records", ""


def _wrong(columns: Columns) -> str:
    lengths = {len(column) for column in columns if column is not None}
    if lengths != {len(columns.values)} or not columns.values:
        return f"columns of lengths {lengths}"
    if not all(value is None or type(value) is bytes for value in (*columns.values, *(columns.keys or ()))):
        return "a value or key that is not bytes"
    numbers = [*(columns.offsets or ()), *(number for number in columns.timestamps or () if number is not None)]
    if not all(type(number) is int and -(2**63) <= number < 2**63 for number in numbers):
        return "an offset or timestamp that is no 64-bit number"
    return ""


def cases(seed: int, numbers: Iterator[int]) -> Iterator[tuple[int, Sample, bytes]]:
    """Damaged files; the same for a seed and a number, in every order."""
    all_of_them = samples()
    for number in numbers:
        rng = random.Random(f"{seed} {number}")
        sample = all_of_them[number % len(all_of_them)]
        yield number, sample, damaged(sample, all_of_them, rng)


def run(seed: int, start: int, stop: int) -> list[Outcome]:
    """The outcomes of cases `start <= number < stop` that are not good, and a last one that counts the others."""
    receiver, sender = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_child, args=(sender, seed, start, stop), daemon=True)
    process.start()
    sender.close()
    begun: Outcome | None = None
    found: list[Outcome] = []
    try:
        while True:
            begun_or_done = receiver.recv()
            if begun_or_done.what == "begun":
                begun = begun_or_done
            else:
                found.append(begun_or_done)
    except EOFError:
        process.join()
    if process.exitcode and begun is not None:
        found.append(Outcome(begun.number, begun.name, "death", f"exit code {process.exitcode}"))
    return found


def _child(sender: Connection, seed: int, start: int, stop: int) -> None:
    samples()
    for sample in samples():
        check(sample, sample.content)  # what is imported and cached belongs to the base
    base = _peak()
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + _ADDRESS_BYTES,) * 2)
    good = {"records": 0, "error": 0}
    for number, sample, content in cases(seed, iter(range(start, stop))):
        sender.send(Outcome(number, sample.name, "begun"))
        faulthandler.dump_traceback_later(TIMEOUT_S, exit=True)
        what, detail = check(sample, content)
        faulthandler.cancel_dump_traceback_later()
        if what in good:
            good[what] += 1
        else:
            sender.send(Outcome(number, sample.name, what, detail))
        if _peak() - base > MEMORY_BYTES:
            sender.send(Outcome(number, sample.name, "memory", f"{(_peak() - base) >> 20} MiB more than before"))
            base = _peak()
    sender.send(Outcome(stop, "", "records", f"{good['records']} gave records, {good['error']} an error"))
    sender.close()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - not a path of ours
        return int(file.read().split()[0]) * resource.getpagesize()


def main() -> None:
    """Runs until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", type=int, help="one case")
    options = parser.parse_args()
    if options.only is not None:
        ((_, sample, content),) = cases(options.seed, iter([options.only]))
        print(sample.name, len(content), *check(sample, content))
        return
    step, number, bad, until = 5_000, 0, 0, time.monotonic() + 60 * options.minutes
    print(f"seed {options.seed}")
    while time.monotonic() < until:
        for outcome in run(options.seed, number, number + step):
            if not outcome.good:
                bad += 1
            print(f"{outcome.number:>9} {outcome.name:<30} {outcome.what} {outcome.detail}", flush=True)
        number += step
    print(f"{number} cases, {bad} bad")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
