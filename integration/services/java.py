"""Command lines of the Java services. Called by `kafka.py` and `flink.py`."""

from pathlib import Path

from integration.services.tools import require

# What Flink 1.19 and Beam's Java workers reach into on Java 17, as in the config.yaml that Flink ships.
_OPENS = (
    "java.base/java.lang", "java.base/java.lang.invoke", "java.base/java.lang.reflect", "java.base/java.io",
    "java.base/java.math", "java.base/java.net", "java.base/java.nio", "java.base/java.text", "java.base/java.time",
    "java.base/java.util", "java.base/java.util.concurrent", "java.base/java.util.concurrent.atomic",
    "java.base/java.util.concurrent.locks", "java.base/sun.net.util",
)  # fmt: skip


def java(
    class_path: str, main_class: str, *arguments: str, heap: str, temporary: Path, quick_start: bool = False
) -> list[str]:
    """The command line of a Java program.

    Args:
        class_path: From `maven.class_path`.
        main_class: Its main class.
        *arguments: Its arguments.
        heap: Its largest heap, as in "512m".
        temporary: Its folder for temporary files, so that they go with the run.
        quick_start: No second compiler: starts with less work, runs slower.
    """
    return [
        require("java"), f"-Xmx{heap}", "-Xms64m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError",
        *(["-XX:TieredStopAtLevel=1"] if quick_start else []),
        *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENS),
        f"-Djava.io.tmpdir={temporary}", "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
        "-cp", class_path, main_class, *arguments,
    ]  # fmt: skip
