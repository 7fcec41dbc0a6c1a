"""A Prometheus with the configuration and the alerts of `integration/observability`, over the targets of a test.

Called by the `prometheus` fixture; not by the command line, which knows nothing to be scraped.
"""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml

from integration.services import debian
from integration.services.process import Run, free_port
from integration.services.tools import run_tool

OBSERVABILITY = Path(__file__).parents[1] / "observability"

_POOL = "pool/main/p/prometheus/prometheus_2.42.0+ds-5+deb12u1_amd64.deb"
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Prometheus:
    """A running server.

    Args:
        run: Where it lives.
        url: Of its interface.
    """

    name: ClassVar[str] = "prometheus"

    run: Run
    url: str

    @classmethod
    def start(cls, run: Run, targets: Sequence[str] = ()) -> Self:
        """Start a server without data.

        Args:
            run: Where it lives.
            targets: What it scrapes in place of what the configuration names, "host:port", every second.
        """
        prometheus, port, folder = _program("prometheus"), free_port(), run.path("prometheus")
        configuration = yaml.safe_load((OBSERVABILITY / "prometheus.yml").read_text(encoding="utf-8"))
        configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        configuration["rule_files"] = [str(OBSERVABILITY / "alerts.yml")]
        configuration["scrape_configs"][0]["static_configs"] = [{"targets": list(targets)}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")
        run.spawn(
            cls.name,
            [
                str(prometheus), f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
        )  # fmt: skip
        server = cls(run=run, url=f"http://127.0.0.1:{port}")
        run.wait_until("answer of Prometheus", server.ask, name=cls.name, timeout_s=30)
        return server

    def ask(self) -> None:
        """Raises unless it is ready."""
        with _opener.open(f"{self.url}/-/ready", timeout=2) as response:
            response.read()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Labels and value of each series that the expression gives now. Raises ValueError where it is none."""
        found = self._get("query", {"query": expression})
        return found["result"] if found["resultType"] in {"vector", "matrix"} else [{"value": found["result"]}]

    def alerts(self) -> dict[str, set[str]]:
        """Names of the alerts that are pending or firing, and their states."""
        found: dict[str, set[str]] = {}
        for alert in self._get("alerts")["alerts"]:
            found.setdefault(alert["labels"]["alertname"], set()).add(alert["state"])
        return found

    def _get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters or {})}"
        try:
            with _opener.open(url, timeout=10) as response:
                return json.loads(response.read())["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{url}: {error.read().decode(errors='replace')[:500]}") from None


def check_rules() -> None:
    """Lets `promtool` look at configuration and alerts. Raises ServiceError with what it says."""
    promtool = str(_program("promtool"))
    run_tool([promtool, "check", "rules", str(OBSERVABILITY / "alerts.yml")])
    run_tool([promtool, "check", "config", str(OBSERVABILITY / "prometheus.yml")])


def _program(name: str) -> Path:
    return debian.unpacked("prometheus", _POOL) / f"usr/bin/{name}"
