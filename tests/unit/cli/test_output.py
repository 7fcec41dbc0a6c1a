"""Tables, JSON and progress bars."""

import io
import json
import sys

import pytest

from beam_unified.cli.output import cell, progress, show, to_json
from beam_unified.offsets import OffsetRange

ROW = {
    "topic": "pins",
    "offsets": OffsetRange(3, 9),
    "at_ms": 1_794_830_400_000,
    "gaps": [OffsetRange(1, 2)],
    "rate": 0.5,
    "none": None,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("out", "err", "shown"),
    [(Terminal, Terminal, True), (io.StringIO, Terminal, False), (Terminal, io.StringIO, False)],
)
def test_a_bar_is_shown_to_people_only(monkeypatch, out, err, shown):
    """Where output or errors go to a pipe or a file there is none, and none is left on the terminal."""
    out, err = out(), err()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    with progress("verifying") as advance:
        advance(1, 2)
    assert ("verifying" in err.getvalue()) is shown
    assert out.getvalue() == ""


def test_json_is_for_programs():
    """Ranges are objects, instants stay numbers."""
    assert json.loads(to_json(ROW)) == {**ROW, "offsets": {"start": 3, "stop": 9}, "gaps": [{"start": 1, "stop": 2}]}


def test_cells_are_for_people():
    """Instants are dates, nothing is a dash, an empty range says where it is."""
    assert [cell(name, value) for name, value in ROW.items()] == [
        "pins",
        "[3, 9)",
        "2026-11-16T12:00:00.000Z",
        "[1, 2)",
        "0.5",
        "-",
    ]
    assert (cell("kafka", OffsetRange(4, 4)), cell("gaps", [])) == ("empty at 4", "-")


def test_markup_in_names_is_text(capsys):
    """A topic may be called [bold]; it may not change how a table looks."""
    show([{"topic": "[bold]x[/bold]"}], "table")
    assert "[bold]x[/bold]" in capsys.readouterr().out
