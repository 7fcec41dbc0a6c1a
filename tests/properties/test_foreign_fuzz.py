"""Some of `tests.fuzz`: damaged files of every format of other tools, in a process that watches its time and memory."""

import os

import pytest

from tests import fuzz
from tests.foreign_samples import Sample, samples

CASES = 10_000 if os.environ.get("HYPOTHESIS_PROFILE", "ci") == "ci" else 100_000


@pytest.mark.rule("B2")
def test_a_damaged_file_gives_records_or_an_error_that_says_where():
    """B2: never another exception, a hang, the end of the process, or more memory than is stated."""
    outcomes = fuzz.run(1, 0, CASES)
    assert [one for one in outcomes if not one.good] == []
    assert len(outcomes) == 1  # all of them were run
    assert sum(int(word) for word in outcomes[0].detail.split() if word.isdigit()) == CASES


def test_the_harness_sees_what_must_not_be():
    """What it is worth: other exceptions, columns that do not fit, and cases that are the same again."""
    sample = samples()[0]

    def reader(found):
        def read(content):
            if isinstance(found, Exception):
                raise found
            return [found]

        return Sample("x", b"x", read, sample.expected)

    assert fuzz.check(reader(KeyError("x")), b"")[0] == "exception"
    assert fuzz.check(reader(sample.expected._replace(offsets=[1])), b"")[0] == "columns"
    assert (
        fuzz.check(
            reader(
                sample.expected._replace(values=[7] * 300)  # type: ignore[list-item]  # that is the point
            ),
            b"",
        )[0]
        == "columns"
    )
    assert fuzz.check(sample, sample.content) == ("records", "")
    one, other = ([case[2] for case in fuzz.cases(3, iter(range(90)))] for _ in range(2))
    assert one == other
    assert len(set(one)) > 80
