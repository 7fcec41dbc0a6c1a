"""Every error this package raises.

Three families, because they need three different people: `ConfigError` is for whoever wrote the pipeline,
`StoreError` for whoever runs Kafka or the archive, `DataLossError` for whoever owns the data. Messages name the topic,
partition, offset or file and end with the next step. None ever holds a credential.

All of them pickle: a worker raises them, the runner carries them home.
"""


class UnifiedLogError(Exception):
    """Base of all errors of this package."""


class ConfigError(UnifiedLogError, ValueError):
    """An option is wrong. Raised while the pipeline is built wherever it can be known there."""


class StoreError(UnifiedLogError):
    """A store (Kafka or the archive) does not answer, refuses us, or does not hold what we were told it holds."""


class UnknownTopicError(StoreError):
    """The brokers do not know the topic."""


class KafkaUnavailableError(StoreError):
    """The brokers cannot be reached. Worth trying again, which the runner does with the bundle."""


class KafkaSecurityError(KafkaUnavailableError):
    """The brokers refuse us, or we them: credentials, certificates, permissions. Waiting helps once one of them changed."""


class ArchiveUnavailableError(StoreError):
    """The archive's storage cannot be reached or refuses us: no such bucket, no such prefix, wrong credentials."""


class CorruptArchiveError(StoreError):
    """A file or a commit object of the archive is not what its commit says: truncated, unreadable, of another topic."""


class OpenClaimError(StoreError):
    """An archiver has claimed a flush and not finished it, and nobody can do so any more with the same content."""


class SnapshotChangedError(StoreError):
    """The archive is no longer what a snapshot pinned: a file changed, is missing, or came into a pinned range."""


class DataLossError(UnifiedLogError):
    """Records that once existed are in neither store (a gap), or the log was truncated under the reader."""


class BadRecordError(UnifiedLogError):
    """One record cannot be used: it cannot be decoded, has no event time, or made a timestamp function fail."""


class TooManyDeadLettersError(BadRecordError):
    """More records are bad than `DeadLetterLimit` allows: more is wrong than some records."""
