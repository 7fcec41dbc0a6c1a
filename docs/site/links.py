"""A hook of mkdocs: links from a page to a source file become the file's name, for the site holds pages only.

A file that is not there stops the build, as a broken link between pages does.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError

_SOURCE_LINK = re.compile(r"\[(?P<text>[^\]]+)\]\(\.\./(?P<path>[^)#]+)\)")
_ROOT = Path(__file__).parent.parent.parent


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs for every page."""

    def name(link: re.Match[str]) -> str:
        path = link["path"]
        if not (_ROOT / path).exists():
            raise PluginError(f"{page.file.src_path} links to {path}, which does not exist")
        shown = link["text"].replace("\\", "")
        return f"`{path}`" if shown == path else f"{link['text']} (`{path}`)"

    return _SOURCE_LINK.sub(name, markdown)
