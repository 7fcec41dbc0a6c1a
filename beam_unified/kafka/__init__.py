"""The Kafka half of the log."""
