"""docs/guarantees.md and the suite agree, and the check of that notices when they do not."""

import subprocess
import sys
from pathlib import Path

from tests.rules import Collector, Rule, problems, read_rules

ROOT = Path(__file__).parent.parent


def collector(**tests):
    """Tests by name -> (rules, outcome)."""
    return Collector({name: rules for name, (rules, _) in tests.items()}, {n: o for n, (_, o) in tests.items()})


def test_every_rule_that_is_called_held_has_a_test():
    """Over the whole suite, integration tests included; nothing is run."""
    command = [sys.executable, "-m", "tests.rules", "--collect-only", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-2_000:]


def test_the_page_numbers_every_rule_of_the_contract():
    """Nothing is left out because it is not built."""
    wanted = [*(f"R{n}" for n in range(1, 11)), *(f"T{n}" for n in range(1, 5)), *(f"S{n}" for n in range(1, 7))]
    wanted += [*(f"A{n}" for n in range(1, 5)), *(f"B{n}" for n in range(1, 6))]
    text = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    assert [rule.name for rule in read_rules(text)] == wanted


def test_a_held_rule_without_a_test_is_a_problem():
    """And a rule that is not held is none."""
    rules = [Rule("R1", "held", ""), Rule("R2", "partly", ""), Rule("R3", "not built", "")]
    assert problems(rules, collector(), ran=False) == ["R1 is called held and no test shows it"]


def test_a_test_that_failed_or_did_not_run_shows_nothing():
    """A skipped test is no proof either."""
    rules = [Rule("R1", "held", "")]
    ran = collector(a=(("R1",), "passed"), b=(("R1",), "failed"), c=(("R1",), "skipped"))
    assert problems(rules, ran, ran=True) == ["R1: b failed", "R1: c skipped"]


def test_a_mark_of_an_unknown_rule_is_a_problem():
    """A typing error in a mark would otherwise hide a test."""
    assert problems([], collector(a=(("R99",), "passed")), ran=True) == [
        "R99 is marked on a and is not in docs/guarantees.md"
    ]
