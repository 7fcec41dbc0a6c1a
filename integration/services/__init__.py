"""Real services for the integration tests, without Docker: Kafka, an S3 server, Flink and Prism as plain processes.

`python -m integration.services up kafka s3 flink prism` starts them, `integration/conftest.py` hands them to tests.
Nothing in `beam_unified` may import this package.
"""
