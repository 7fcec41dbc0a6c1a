"""A schema registry with Confluent's API: Apicurio's, which Maven gives whole, with its schemas in memory.

Why 2.6 and not 3: that one needs Java 21. Called by the command line and by the `registry` fixture.
"""

import tarfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

from integration.services.process import Run, free_port
from integration.services.tools import cached, require, run_tool

_VERSION = "2.6.13.Final"
_ARTIFACT = f"io.apicurio:apicurio-registry-app:{_VERSION}:tar.gz:all"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """A running registry.

    Args:
        run: Where it lives.
        url: Of Confluent's API.
    """

    name: ClassVar[str] = "registry"

    run: Run
    url: str

    @classmethod
    def start(cls, run: Run) -> Self:
        """Start a registry without schemas."""
        folder, port = cached(f"apicurio/{_VERSION}", _unpack), free_port()
        jar = folder / f"apicurio-registry-app-{_VERSION}-runner.jar"
        settings = {"QUARKUS_HTTP_HOST": "127.0.0.1", "QUARKUS_HTTP_PORT": str(port)}
        run.spawn(
            cls.name, [require("java"), "-Xmx256m", "-XX:TieredStopAtLevel=1", "-jar", str(jar)], environment=settings
        )
        registry = cls(run=run, url=f"http://127.0.0.1:{port}/apis/ccompat/v7")
        run.wait_until("answer of the registry", registry.ask, name=cls.name)
        return registry

    def ask(self) -> None:
        """Raises unless it lists its subjects."""
        with _opener.open(f"{self.url}/subjects", timeout=2) as response:
            response.read()


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine


def _unpack(folder: Path) -> None:
    run_tool([require("mvn"), "-q", "-B", _COPY, f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={folder}"])
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    archive.unlink()
