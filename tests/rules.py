"""Rule by rule: which tests show it, and how they went. `python -m tests.rules [pytest arguments]`.

Runs the suite (`tests` and `integration` unless told otherwise), prints a line a rule, and fails where a rule that
docs/guarantees.md calls held has no test, or one that failed or was skipped. With `--collect-only` nothing is run and
only the missing tests count; the suite itself does that (tests/test_rules.py).
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_GUARANTEES = Path(__file__).parent.parent / "docs" / "guarantees.md"
_HEADING = re.compile(
    r"^### (?P<rule>[A-Z]\d+) · (?P<status>held|partly|not built)(?: · (?P<title>.*))?$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A heading of docs/guarantees.md."""

    name: str
    status: str
    title: str


@dataclass(eq=False)  # pytest keeps its plugins in sets
class Collector:
    """A pytest plugin that notes which test carries which rule, and how it went."""

    rules_of: dict[str, tuple[str, ...]] = field(default_factory=dict)
    outcome_of: dict[str, str] = field(default_factory=dict)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Every collected test."""
        for item in items:
            rules = tuple(str(rule) for mark in item.iter_markers("rule") for rule in mark.args)
            if rules:
                self.rules_of[item.nodeid] = rules

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Every phase of every test: the worst one counts."""
        if report.when == "call" or report.outcome != "passed":
            self.outcome_of[report.nodeid] = report.outcome

    def tests_of(self) -> dict[str, list[str]]:
        """Rule -> tests."""
        found = defaultdict(list)
        for test, rules in self.rules_of.items():
            for rule in rules:
                found[rule].append(test)
        return dict(found)


def read_rules(text: str) -> list[Rule]:
    """The rules of docs/guarantees.md, in its order."""
    return [Rule(m["rule"], m["status"], m["title"] or "") for m in _HEADING.finditer(text)]


def problems(rules: Iterable[Rule], collector: Collector, *, ran: bool) -> list[str]:
    """What is wrong between the page and the suite."""
    tests = collector.tests_of()
    known = {rule.name for rule in rules}
    found = [f"{name} is marked on {tests[name][0]} and is not in docs/guarantees.md" for name in tests.keys() - known]
    for rule in rules:
        if rule.status == "held" and rule.name not in tests:
            found.append(f"{rule.name} is called held and no test shows it")
        if ran and rule.status == "held":
            found += [
                f"{rule.name}: {test} {collector.outcome_of.get(test, 'was not run')}"
                for test in tests.get(rule.name, [])
                if collector.outcome_of.get(test) != "passed"
            ]
    return found


def main(arguments: list[str]) -> int:
    """Runs, prints, judges."""
    collector = Collector()
    rules = read_rules(_GUARANTEES.read_text(encoding="utf-8"))
    paths = [] if any(not argument.startswith("-") for argument in arguments) else ["tests", "integration"]
    code = pytest.main(["-q", *paths, *arguments], plugins=[collector])
    if code not in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}:
        return int(code)
    ran = "--collect-only" not in arguments
    tests = collector.tests_of()
    for rule in rules:
        outcomes = Counter(collector.outcome_of.get(test, "not run") for test in tests.get(rule.name, []))
        shown = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())) or "no test"
        print(f"{rule.name:4} {rule.status:10} {rule.title:44} {shown}")
    wrong = problems(rules, collector, ran=ran)
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
