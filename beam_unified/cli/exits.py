"""What the exit codes mean. The only place where they are said; docs/cli.md repeats the table, and a test compares the two."""

from beam_unified.errors import ConfigError, DataLossError, StoreError, UnifiedLogError

DONE = 0
UNEXPECTED = 1
"""A defect of this program: a traceback is on standard error."""
USAGE = 2
STORE = 3
DATA_LOSS = 4
PROBLEMS = 5
INTERRUPTED = 130
PIPE_CLOSED = 141

MEANINGS = {
    DONE: "done",
    UNEXPECTED: "unexpected error: a traceback is on standard error",
    USAGE: "an option, argument or setting is wrong",
    STORE: "Kafka or the archive cannot be reached, refuses us, or does not hold what was asked for",
    DATA_LOSS: "records that once existed are in neither store, or the log was truncated",
    PROBLEMS: "a check has found problems",
    INTERRUPTED: "interrupted (Ctrl-C)",
    PIPE_CLOSED: "whoever read the output has closed it, as `head` does",
}


def exit_code(error: UnifiedLogError) -> int:
    """For an error of this package."""
    match error:
        case ConfigError():
            return USAGE
        case DataLossError():
            return DATA_LOSS
        case StoreError():
            return STORE
        case _:
            return UNEXPECTED
