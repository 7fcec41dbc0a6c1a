"""Files of the writers that Kafka Connect's sinks use, of the records of tests/foreign_samples.py."""
