"""Mutants of one module at a time, by cosmic-ray, in a copy of the tree. Starts processes; called by `__main__`.

cosmic-ray edits the module in place, so it is given a copy: what git tracks, with uncommitted changes and new files. That
the tests import the copy, and not the package as installed, is checked before each module.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TREE = Path(__file__).parent.parent

# `|` occurs in types only here: its mutants die at import and would flatter the score.
_CONFIG = """
[cosmic-ray]
module-path = "{module}"
timeout = {timeout:.1f}
test-command = "{command}"
[cosmic-ray.distributor]
name = "local"
[cosmic-ray.filters.operators-filter]
exclude-operators = ["core/ReplaceBinaryOperator_BitOr_.*"]
"""


class Mutant(NamedTuple):
    """What a mutant is, without line numbers: another line above it does not make another one of it."""

    module: str
    definition: str
    operator: str
    was: str
    now: str


class Outcome(NamedTuple):
    """How a mutant went."""

    mutant: Mutant
    survived: bool
    diff: str


def copy_tree(to: Path) -> None:
    """Copies the files that git tracks or would track, as they are now."""
    listed = _run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], TREE).stdout
    for name in filter(None, listed.split("\0")):
        if (TREE / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TREE / name, to / name)


def outcomes(tree: Path, module: str, tests: list[str]) -> Iterator[Outcome]:
    """Makes every mutant of a module in the copy `tree` and runs `tests` against each."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    began = time.monotonic()
    _run(command, tree)
    timeout = 10 + 5 * (time.monotonic() - began)
    _check_that_mutants_are_seen(tree / module, command, tree)
    config, session = tree / "cosmic-ray.toml", tree / "cosmic-ray.sqlite"
    config.write_text(_CONFIG.format(module=module, timeout=timeout, command=" ".join(command)), encoding="utf-8")
    session.unlink(missing_ok=True)
    _cosmic_ray("cli", tree, "init", config.name, session.name)
    _cosmic_ray("tools.filters.operators_filter", tree, session.name, config.name)
    _cosmic_ray("cli", tree, "exec", config.name, session.name)
    _run(command, tree)  # what failed so far did not fail for another reason
    for line in _cosmic_ray("cli", tree, "dump", session.name).splitlines():
        item, result = json.loads(line)
        if result["worker_outcome"] == "skipped":
            continue
        if result["worker_outcome"] != "normal":
            raise RuntimeError(f"cosmic-ray could not run a mutant of {module}: {item} {result}")
        mutation = item["mutations"][0]
        changed = [line for line in result["diff"].splitlines()[3:] if line[0] in "+-"]
        was, now = (" ".join(" ".join(line[1:] for line in changed if line[0] == sign).split()) for sign in "-+")
        operator = mutation["operator_name"].removeprefix("core/")
        mutant = Mutant(module, mutation["definition_name"] or "", operator, was, now)
        yield Outcome(mutant, result["test_outcome"] == "survived", result["diff"])


def _check_that_mutants_are_seen(module: Path, command: list[str], tree: Path) -> None:
    source = module.read_bytes()
    module.write_bytes(source + b'\nraise RuntimeError("a mutant was seen")\n')
    try:
        seen = _run(command, tree, check=False, PYTHONDONTWRITEBYTECODE="1").stdout
    finally:
        module.write_bytes(source)
    if "a mutant was seen" not in seen:
        raise RuntimeError(f"the tests of {module} do not import it from the copy: no mutant would be seen\n{seen}")


def _cosmic_ray(program: str, tree: Path, *arguments: str) -> str:
    return _run([sys.executable, "-m", f"cosmic_ray.{program}", *arguments], tree).stdout


def _run(
    command: list[str], folder: Path, *, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, check=False, capture_output=True, text=True
    )
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed\n{done.stdout}{done.stderr}")
    return done
