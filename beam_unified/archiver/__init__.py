"""Kafka -> archive, exactly once. No Beam here: `beam_unified.archive_topic` is the transform."""
