"""Programs of Debian packages, unpacked into the cache: nothing is installed, and nobody need be root.

Called by `prometheus.py` and `rsyslog.py`.
"""

import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from integration.services.tools import ServiceError, cached, require, run_tool

_SOURCES = Path("/etc/apt")
_MIRROR = "http://deb.debian.org/debian"
_URI = re.compile(r"^(?:URIs:|deb(?:\s+\[.*\])?)\s+(https?://\S+/debian)/?\s*", re.MULTILINE)


def unpacked(package: str, pool: str) -> Path:
    """The files of a package, without those that it depends on; fetched on first use, some seconds.

    Args:
        package: Its name, for apt, which knows the newest version where its lists are filled.
        pool: Where a version that works lies in a mirror's pool, for where they are not.

    Raises:
        ServiceError: neither way led to the package.
    """
    return cached(f"debian/{Path(pool).stem}", lambda folder: _fetch(package, pool, folder))


def _fetch(package: str, pool: str, folder: Path) -> None:
    unpack = require("dpkg-deb")
    try:
        _by_apt(package, folder)
    except ServiceError as error:
        _from_pool(pool, folder, error)
    (archive,) = folder.glob("*.deb")
    run_tool([unpack, "-x", str(archive), str(folder)])
    archive.unlink()


def _by_apt(package: str, folder: Path) -> None:
    apt = shutil.which("apt-get")
    if apt is None:
        raise ServiceError("there is no apt-get on this machine")
    run_tool([apt, "download", package], folder=folder, timeout_s=120)
    if not any(folder.glob("*.deb")):
        raise ServiceError(f"apt-get download {package} left no package")


def _from_pool(pool: str, folder: Path, reason: ServiceError) -> None:
    url = f"{mirror(_SOURCES)}/{pool}"
    try:
        with urllib.request.urlopen(url, timeout=60) as response, (folder / Path(pool).name).open("wb") as file:
            shutil.copyfileobj(response, file)
    except (OSError, urllib.error.URLError) as error:
        raise ServiceError(
            f"could not fetch {url} ({error}), after apt had failed: {reason}\n"
            "Run `apt-get update` as root, or set a mirror that can be reached in /etc/apt."
        ) from error


def mirror(sources: Path) -> str:
    """The mirror of Debian that apt is configured to use; Debian's own where none is found."""
    for path in [*sorted(sources.glob("sources.list.d/*")), sources / "sources.list"]:
        if path.is_file() and (found := _URI.search(path.read_text(encoding="utf-8", errors="replace"))):
            return found[1]
    return _MIRROR
