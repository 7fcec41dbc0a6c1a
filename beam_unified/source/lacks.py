"""What is asked of an archive whose records lack something: refused when the pipeline is built (rule A3). Values only."""

from beam_unified.errors import ConfigError
from beam_unified.event_time import ElementTime, EventTime, KafkaTimestamp
from beam_unified.positions import AtTimestamp, BeforeNow, StartPosition, StopPosition
from beam_unified.stores import Incomplete

_BY_TIME = (AtTimestamp, BeforeNow)


def check_lacks(
    archive: object,
    times: EventTime | ElementTime,
    *,
    output: str,
    start: StartPosition | None,
    stop: StopPosition | None,
) -> None:
    """Raises ConfigError, with the next step, where a read asks for what the archive does not hold."""
    if not isinstance(archive, Incomplete):
        return
    if "timestamp" in archive.lacks:
        if isinstance(times, KafkaTimestamp):
            raise ConfigError(
                f"timestamp_fn=KafkaTimestamp(), but the records of {archive!r} have no Kafka timestamp: take the event time from "
                "the value, with JsonField('time', unit='ms'), Field(...) and a decoder, or a function."
            )
        for option, position in (("start", start), ("stop", stop)):
            if isinstance(position, _BY_TIME):
                raise ConfigError(
                    f"{option} is an instant, but the records of {archive!r} have no Kafka timestamp by which it could be found: "
                    f"use {option.capitalize()}.offsets({{partition: offset}})"
                    + (", Start.earliest() or Start.latest()." if option == "start" else ".")
                )
    missing = sorted(set(archive.lacks) - set(archive.accept_missing))
    if output != "value" and missing:
        raise ConfigError(
            f"output={output!r}, but the records of {archive!r} have no {', no '.join(missing)}: read values "
            f"(output='value'), or say that None will do, with Archive(..., accept_missing={missing!r})."
        )
