"""Class paths of the Java services: one Maven profile of the pom beside this module, copied to a folder of its own.

Called by `kafka.py` and `flink.py`. Kafka and Flink never share a class path.
"""

import hashlib
from pathlib import Path

from integration.services.tools import cached, require, run_tool

_POM = Path(__file__).with_name("pom.xml")


def class_path(profile: str) -> str:
    """The class path of a profile. Keyed by the pom's content: a changed pom is resolved anew."""
    key = hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]
    return f"{cached(f'jars/{profile}-{key}', lambda folder: _copy_jars(profile, folder))}/*"


def _copy_jars(profile: str, folder: Path) -> None:
    require("java")
    run_tool([
        require("mvn"), "-q", "-B", "-f", str(_POM), "-P", profile, "dependency:copy-dependencies",
        "-DincludeScope=runtime", f"-DoutputDirectory={folder}",
    ])  # fmt: skip
    if not any(folder.glob("*.jar")):
        raise FileNotFoundError(f"Maven profile {profile} of {_POM} copied no jar")
