"""Chunks become elements, each with its own event time."""

import pytest
from apache_beam.transforms.window import GlobalWindow
from hypothesis import given
from hypothesis import strategies as st

from beam_unified.records import ListBatch, Record, Store
from beam_unified.source.chunks import Chunk, Explode
from tests.strategies import MICROS


def chunk_of(micros):
    """A record for each event time."""
    found = [Record(None, b"%d" % i, (), "pins", 0, i, None, None, "") for i in range(len(micros))]
    return Chunk(ListBatch(found, Store.ARCHIVE), micros)


@pytest.mark.rule("T1")
@given(st.lists(MICROS, min_size=1, max_size=10), st.sampled_from(("value", "record")))
def test_every_record_gets_its_own_event_time(micros, output):
    """In order, in the global window, as value or whole."""
    chunk = chunk_of(micros)
    found = list(Explode(output).process(chunk))
    assert [one.timestamp_micros for one in found] == micros
    assert all(list(one.windows) == [GlobalWindow()] for one in found)
    records = list(chunk.batch.records())
    assert [one.value for one in found] == ([r.value for r in records] if output == "value" else records)
