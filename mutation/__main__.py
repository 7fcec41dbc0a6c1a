"""Mutates the pure modules and prints the score: `python -m mutation [module ...]`, for example `watermarks.py`.

Fails where a mutant survives that mutation/survivors.toml does not explain, or where an explained one is killed by now.
"""

import argparse
import json
import sys
import tempfile
import tomllib
from pathlib import Path

from mutation.sandbox import Mutant, Outcome, copy_tree, outcomes

SURVIVORS = Path(__file__).parent / "survivors.toml"

# Module -> the tests that state its rules. Few and fast: they run once a mutant.
MODULES = {
    "positions.py": ["unit/test_positions.py"],
    "watermarks.py": ["unit/test_watermarks.py", "properties/test_watermarks.py"],
    "flushes.py": ["unit/test_flushes.py", "properties/test_flushes.py"],
    "offsets.py": ["unit/test_offsets.py"],
    "reading/choice.py": ["unit/reading/test_choice.py", "properties/test_choice.py"],
    "reading/resolve.py": ["unit/reading/test_resolve.py"],
    "source/tracker.py": ["unit/source/test_tracker.py", "properties/test_tracker.py"],
    "source/restriction.py": ["unit/source/test_restriction.py", "properties/test_tracker.py"],
    "source/pacing.py": ["unit/source/test_pacing.py"],
}
VALUES = "unit/test_values.py"  # what holds for every value class


def main() -> int:
    """Runs, prints, judges."""
    parser = argparse.ArgumentParser(prog="python -m mutation", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="module", help=f"of {', '.join(MODULES)}; without one, all")
    modules = parser.parse_args().modules or list(MODULES)
    if unknown := sorted(set(modules) - set(MODULES)):
        parser.error(f"no such module: {', '.join(unknown)}")
    explained, found = read_survivors(), dict[str, list[Outcome]]()
    with tempfile.TemporaryDirectory() as folder:
        copy_tree(Path(folder))
        for module in modules:
            print(f"{module} ...", file=sys.stderr, flush=True)
            tests = [f"tests/{name}" for name in [*MODULES[module], VALUES]]
            found[module] = list(outcomes(Path(folder), f"beam_unified/{module}", tests))
            print_survivors(found[module], explained)
    alive = {outcome.mutant for results in found.values() for outcome in results if outcome.survived}
    gone = [mutant for mutant in explained if mutant.module.split("/", 1)[1] in modules and mutant not in alive]
    for mutant in gone:
        print(f"EXPLAINED, BUT KILLED OR NOT MADE ANY MORE:{as_toml(mutant)}\n")
    print_table(found)
    return 1 if gone or alive - set(explained) else 0


def print_survivors(results: list[Outcome], explained: dict[Mutant, str]) -> None:
    """Each as a diff, and why it may survive."""
    for mutant, survived, diff in results:
        if survived:
            print(f"{diff}\n{explained.get(mutant, 'NOT EXPLAINED:' + as_toml(mutant))}\n", flush=True)


def read_survivors() -> dict[Mutant, str]:
    """Accepted survivors, each with its reason."""
    entries = tomllib.loads(SURVIVORS.read_text(encoding="utf-8")).get("survivor", [])
    return {Mutant(*(entry[name] for name in Mutant._fields)): entry["reason"] for entry in entries}


def as_toml(mutant: Mutant) -> str:
    """An entry of survivors.toml, without its reason."""
    return "\n[[survivor]]\n" + "\n".join(f"{name} = {json.dumps(text)}" for name, text in mutant._asdict().items())


def print_table(found: dict[str, list[Outcome]]) -> None:
    """One line a module, and the sum."""
    rows = [(module, len(results), sum(outcome.survived for outcome in results)) for module, results in found.items()]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    print("| Module | Mutants | Killed | Survived |\n| --- | ---: | ---: | ---: |")
    for name, mutants, survived in rows:
        print(f"| {name} | {mutants} | {mutants - survived} | {survived} |")


if __name__ == "__main__":
    sys.exit(main())
