"""The demo notices every kind of wrong number; a demo that always says "all right" would show nothing."""

from dataclasses import replace

import pytest

from beam_unified.offsets import OffsetRange
from pipelines.flights.checks import PartitionResult, wrong_months

RIGHT = PartitionResult(
    partition=3,
    written=range(10),
    archived=OffsetRange(0, 6),
    kafka=OffsetRange(4, 10),
    from_archive=range(6),
    from_kafka=range(6, 10),
)


def test_all_right():
    assert RIGHT.problems() == []
    assert (RIGHT.handoff, RIGHT.records, RIGHT.duplicates, RIGHT.missing) == (6, 10, 0, 0)


@pytest.mark.parametrize(
    ("wrong", "problems"),
    [
        ({"from_archive": [0, 1, 1, 2, 3, 4, 5]}, ["1 records came out more than once"]),
        ({"from_archive": [0, 1, 3, 4, 5]}, ["1 records are missing"]),
        ({"from_kafka": range(6, 11)}, ["1 records came out that nobody wrote"]),
        (
            {"from_kafka": range(5, 10)},  # an overlap of the stores, read twice
            ["1 records came out more than once", "handoff to Kafka at offset 5, the archive ends before 6"],
        ),
        (
            {"from_archive": range(5), "from_kafka": range(5, 10)},  # all there, but handed over too early
            [
                "handoff to Kafka at offset 5, the archive ends before 6",
                "last offset from files is 4, the archive ends before 6",
            ],
        ),
        (
            {"from_archive": (), "from_kafka": ()},
            [
                "10 records are missing",
                "handoff to Kafka at offset None, the archive ends before 6",
                "last offset from files is None, the archive ends before 6",
            ],
        ),
    ],
)
def test_wrong_numbers(wrong, problems):
    assert replace(RIGHT, **wrong).problems() == [f"partition 3: {problem}" for problem in problems]


def test_months():
    assert wrong_months({1: 5, 2: 7}, {1: 5, 2: 7}) == []
    assert wrong_months({1: 5, 2: 7}, {1: 4, 3: 1}) == [
        "month 1: 4 flights, 5 were written",
        "month 2: 0 flights, 7 were written",
        "month 3: 1 flights, 0 were written",
    ]
