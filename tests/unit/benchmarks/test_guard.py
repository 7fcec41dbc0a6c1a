"""The guard of the benchmarks: a ratio that has lost more than a quarter is named."""

import json

import pytest

from benchmarks import guard
from benchmarks.__main__ import BASELINE


@pytest.mark.parametrize(("now", "lines"), [(0.76, 0), (0.75, 0), (0.74, 1), (2.0, 0)])
def test_a_quarter_is_the_limit(now, lines):
    """Named with figure, runner, and both ratios."""
    found = guard.dropped({"reads": {"direct": now}}, {"reads": {"direct": 1.0}})
    assert found == [f"reads on direct: {now:.2f}, the baseline says 1.00"] * lines


def test_what_was_not_measured_is_not_compared():
    """Neither without a runner, nor a figure that is new."""
    assert (
        guard.dropped({"new": {"direct": 0.1}, "reads": {}}, {"reads": {"flink": 1.0}, "gone": {"direct": 1.0}}) == []
    )


def test_the_tracked_baseline_is_one():
    """It holds ratios of the figures that are measured, and is not worse than itself."""
    ratios = guard.ratios(json.loads(BASELINE.read_text(encoding="utf-8")))
    assert ratios["archive_to_elements"]["direct"] > 0
    assert "details" not in ratios
    assert guard.dropped(ratios, ratios) == []
    assert guard.dropped({}, ratios) == []
