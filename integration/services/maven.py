"""Class paths of the Java services: one Maven profile of the pom beside this module, copied to a folder of its own.

Called by `kafka.py` and `flink.py`. Kafka and Flink never share a class path.
"""

import hashlib
import re
import zipfile
from collections import defaultdict
from pathlib import Path

from integration.services.tools import ServiceError, cached, require, run_tool

_POM = Path(__file__).with_name("pom.xml")
_MANIFEST = "META-INF/MANIFEST.MF"
_SIGNATURE = re.compile(r"META-INF/[^/]+\.(SF|RSA|DSA|EC)")


def class_path(profile: str) -> str:
    """The class path of a profile. Keyed by the pom's content: a changed pom is resolved anew."""
    return f"{_jars(profile)}/*"


def merged_class_path(profile: str) -> str:
    """The same in one jar.

    For Beam's job server, which sends every jar of its class path with every job: Flink takes them one by one, and 163
    of them made a submission last 14 s, one of the same size 3 to 4 s.
    """
    return str(cached(f"jars/{profile}-{_key()}-merged", lambda folder: _merge(profile, folder)) / f"{profile}.jar")


def _key() -> str:
    return hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]


def _jars(profile: str) -> Path:
    return cached(f"jars/{profile}-{_key()}", lambda folder: _copy_jars(profile, folder))


def _copy_jars(profile: str, folder: Path) -> None:
    require("java")
    copy_dependencies(_POM, folder, "-P", profile)


def copy_dependencies(pom: Path, folder: Path, *options: str) -> None:
    """The jars that a pom needs to run, into a folder. Raises ServiceError where there are none."""
    run_tool([
        require("mvn"), "-q", "-B", "-f", str(pom), *options, "dependency:copy-dependencies",
        "-DincludeScope=runtime", f"-DoutputDirectory={folder}",
    ])  # fmt: skip
    if not any(folder.glob("*.jar")):
        raise ServiceError(f"Maven copied no jar of {' '.join([str(pom), *options])}")


def _merge(profile: str, folder: Path) -> None:
    """Files of the same name: the first jar's stands, but lists of services are joined. Signatures are void, so left out."""
    services: defaultdict[str, list[bytes]] = defaultdict(list)
    seen = {_MANIFEST}
    with zipfile.ZipFile(folder / f"{profile}.jar", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as merged:
        merged.writestr(_MANIFEST, "Manifest-Version: 1.0\r\nMulti-Release: true\r\n\r\n")
        for path in sorted(_jars(profile).glob("*.jar")):
            with zipfile.ZipFile(path) as jar:
                for name in jar.namelist():
                    if name.startswith("META-INF/services/") and not name.endswith("/"):
                        services[name].append(jar.read(name))
                    elif name not in seen and not name.endswith("/") and not _SIGNATURE.fullmatch(name):
                        seen.add(name)
                        merged.writestr(name, jar.read(name))
        for name, lists in services.items():
            merged.writestr(name, b"\n".join(lists))
