"""How results are shown: tables for people, JSON lines for programs; progress where both ends of it are a terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from beam_unified.clock import iso
from beam_unified.offsets import OffsetRange

_WIDE = 400  # columns of a table that is not on a terminal: nothing is cut or wrapped

Row = Mapping[str, Any]

output_option = click.option(
    "--output", "-o", type=click.Choice(["table", "json"]), default="table", show_default=True,
    envvar="BEAM_UNIFIED_OUTPUT", help="A table, or a JSON object a line.",
)  # fmt: skip


def show(rows: Iterable[Row], output: str, *, empty: str = "nothing") -> None:
    """Writes rows, all of the same names; JSON as they come."""
    if output == "json":
        for row in rows:
            click.echo(to_json(row))
        return
    found = list(rows)
    if not found:
        click.echo(empty, err=True)
        return
    console().print(table(found))


def table(rows: Sequence[Row]) -> Table:
    """A table whose columns are the names of the first row."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name, value in rows[0].items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        made.add_column(
            name.removesuffix("_ms").replace("_", " "), justify="right" if number else "left", overflow="fold"
        )
    for row in rows:
        made.add_row(*(cell(name, value) for name, value in row.items()))
    return made


def console() -> Console:
    """For standard output; wide where that is no terminal."""
    return _Console(width=None if sys.stdout.isatty() else _WIDE, soft_wrap=False, highlight=False, markup=False)


class _Console(Console):
    """Leaves a closed pipe to `app`: rich itself would end the program with another exit code."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def to_json(row: Row) -> str:
    """One line. Ranges are objects of `start` and `stop`, instants are milliseconds."""
    return msgspec.json.encode(row, enc_hook=_plain).decode()


def cell(name: str, value: Any) -> str:
    """One value, for people. A name that ends in `_ms` is an instant."""
    match value:
        case None:
            return "-"
        case OffsetRange() if value.start == value.stop:
            return f"empty at {value.start}"
        case int() if name.endswith("_ms"):
            return iso(value)
        case list() | tuple():
            return ", ".join(cell(name, one) for one in value) or "-"
        case float():
            return f"{value:.6f}".rstrip("0").rstrip(".")
        case _:
            return str(value)


def _plain(value: object) -> object:
    if isinstance(value, OffsetRange):
        return {"start": value.start, "stop": value.stop}
    raise NotImplementedError(f"no JSON for {type(value).__name__}")


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A function (done, of) that moves a bar on standard error; none where output or errors go anywhere but a terminal."""
    shown = sys.stdout.isatty() and sys.stderr.isatty()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
