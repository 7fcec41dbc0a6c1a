"""Runs the snippets of docs/arrow.md as they stand there."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pandas as pd
import polars as pl
import pyarrow.compute as pc
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

import beam_unified
from beam_unified.testing import InMemoryLog

_PAGE = Path(__file__).parent.parent / "docs" / "arrow.md"
_SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_snippet():
    """They run, in order, over a log with one bad record, and give what the page says."""
    log = InMemoryLog("published_pins")
    values = [*(b'{"id": %d, "board": null}' % i for i in range(5)), b"no JSON"]
    for i, value in enumerate(values):
        log.append(0, value, timestamp=i * 1_000)
    log.flush(0, stop=4)
    scope: dict[str, Any] = {
        **{name: getattr(beam_unified, name) for name in beam_unified.__all__},
        "NamedTuple": NamedTuple,
        "beam": beam,
        "pc": pc,
        "pd": pd,
        "pl": pl,
        "kafka": log.kafka,
        "archive": log.archive,
        "__name__": "docs_arrow",
    }
    with beam.Pipeline(runner=FnApiRunner()) as p:
        scope["p"] = p
        for snippet in _SNIPPET.findall(_PAGE.read_text(encoding="utf-8")):
            exec(snippet, scope)
        whole = [sum(map(len, values[:4])), sum(map(len, values[4:]))]
        assert_that(scope["sizes"], equal_to(whole), "sizes")
        assert_that(scope["records"] | beam.Map(lambda one: one.value), equal_to(values), "records")
        assert_that(scope["ids"], equal_to(list(range(5))), "ids")
        assert_that(scope["pins"].dead_letters | beam.Map(lambda one: one.offset), equal_to([5]), "bad")
        assert_that(scope["last"], equal_to([{0: 3}, {0: 5}]), "pandas")
        newest = scope["newest"] | beam.Map(lambda rows: [(partition, time.timestamp()) for partition, time in rows])
        assert_that(newest, equal_to([[(0, 3.0)], [(0, 5.0)]]), "Polars")
