"""Positions for lag monitors: nothing is said before the runner has made the bundle safe."""

import apache_beam as beam

from beam_unified import Kafka, TopicPartition
from beam_unified.kafka.group_commits import COMMITTERS
from beam_unified.source.committing import CommitPositions


def test_a_position_is_noted_when_its_bundle_is_final(monkeypatch):
    """Not when it passes: what was emitted before it may still be taken back by the runner."""
    dofn = CommitPositions("key", Kafka("127.0.0.1:9"), "group")
    dofn.setup()
    committer = dofn._committer
    assert committer is not None
    monkeypatch.setattr(committer, "_send", lambda _due: None)  # no broker here
    finalizer = beam.DoFn.BundleFinalizerParam()
    for offset in (5, 9):
        dofn.process(("pins", 0, offset), finalizer)
    assert committer._due == {}
    finalizer.finalize_bundle()
    assert committer._due == {TopicPartition("pins", 0): 9}
    dofn.teardown()
    assert "key" not in COMMITTERS.in_use()
