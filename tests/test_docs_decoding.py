"""Runs the snippets of docs/decoding.md as they stand there."""

import re
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

import beam_unified
from beam_unified import connect_record
from beam_unified.testing import InMemoryLog, InMemoryTopics

_PAGE = Path(__file__).parent.parent / "docs" / "decoding.md"
_SNIPPET = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_snippet():
    """They run, in order, with what they import themselves, over a log with one bad record, and give what the page says."""
    log = InMemoryLog("published_pins")
    for value in (b'{"id": 1, "published_at": 1000}', b'{"id": 1, "published_at": 3000}'):
        log.append(0, value, timestamp=1)
    log.flush(0)
    read, registry, table, bad, replay, own = _SNIPPET.findall(_PAGE.read_text(encoding="utf-8"))
    scope: dict[str, Any] = {
        "kafka": log.kafka,
        "archive": log.archive,
        "__name__": "docs_decoding",
    }
    read = read.replace("{0: 3}", "{0: 2}")
    with beam.Pipeline(runner=FnApiRunner()) as p:
        scope["p"] = p
        exec(read + registry + table, scope)
        assert scope["framed"].element_type is scope["Pin"]
        assert_that(scope["per_id"] | beam.Map(tuple), equal_to([(1, 3000)]))
    log.append(0, b"no JSON", timestamp=1)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        scope["p"] = p
        exec(bad, scope)
        assert_that(scope["to_kafka"] | beam.Map(lambda record: record.value), equal_to([b"no JSON"]))
    dead = InMemoryLog("published_pins.dead")
    letter = connect_record(beam_unified.DeadLetter(log.topic, 0, 2, 3, "decoding", "", next(iter(log.records(0)[2:]))))
    dead.append(0, letter.value, headers=letter.headers, timestamp=1)
    topics = InMemoryTopics(log, dead)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        replayed = {**scope, "p": p, "kafka": topics.kafka, "corrected": beam_unified.Text()}
        exec(replay, replayed)
        assert_that(replayed["again"], equal_to(["no JSON"]))
    exec(own, scope)
    with beam.Pipeline(runner=FnApiRunner()) as p:
        stop = beam_unified.Stop.offsets({0: 3})
        texts = p | beam_unified.ReadUnified(
            log.topic,
            log.kafka,
            log.archive,
            decoder=scope["Upper"](),
            timestamp_fn=beam_unified.KafkaTimestamp(),
            stop=stop,
        )
        assert_that(texts | beam.Filter(lambda text: text == "NO JSON"), equal_to(["NO JSON"]))
