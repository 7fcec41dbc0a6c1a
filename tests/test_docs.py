"""Every Python snippet of README and docs is Python, and calls what is public as it can be called.

Many pages are also run by tests of their own; this one is for all of them, and for what needs brokers that are not there.
"""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import beam_unified
from beam_unified import harness, testing

_ROOT = Path(__file__).parent.parent
_PAGES = sorted([_ROOT / "README.md", *(_ROOT / "docs").glob("*.md")])
_BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
_MODULES = {"beam_unified": beam_unified, "beam_unified.testing": testing, "beam_unified.harness": harness}
_PUBLIC = {name: getattr(beam_unified, name) for name in beam_unified.__all__}


def snippets(page: Path) -> list[ast.Module]:
    return [ast.parse(text, str(page)) for text in _BLOCK.findall(page.read_text(encoding="utf-8"))]


def public_calls(snippet: ast.Module) -> Iterator[tuple[ast.Call, Callable[..., Any]]]:
    """Calls of public names, and of what hangs on them: `Archive(...)`, `Start.at(...)`."""
    for call in ast.walk(snippet):
        match call:
            case ast.Call(func=ast.Name(id=name)) if name in _PUBLIC:
                yield call, _PUBLIC[name]
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attribute)) if name in _PUBLIC:
                yield call, getattr(_PUBLIC[name], attribute)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_snippets_call_what_there_is(page):
    """Arguments exist and are enough, where the snippet names all of them (no `...` and no `**`); imports are public names."""
    for snippet in snippets(page):
        for call, called in public_calls(snippet):
            left_out = any(isinstance(one, ast.Constant) and one.value is ... for one in call.args)
            unpacked = any(keyword.arg is None for keyword in call.keywords)
            bind = inspect.signature(called).bind_partial if left_out or unpacked else inspect.signature(called).bind
            named = {keyword.arg: None for keyword in call.keywords if keyword.arg is not None}
            positional = [one for one in call.args if not (isinstance(one, ast.Constant) and one.value is ...)]
            bind(*positional, **named)  # raises TypeError
        for node in ast.walk(snippet):
            if isinstance(node, ast.ImportFrom) and node.module in _MODULES:
                for alias in node.names:
                    assert hasattr(_MODULES[node.module], alias.name), f"{page.name}: {alias.name}"


@pytest.mark.parametrize("page", [*_PAGES, *sorted(_ROOT.glob("*.md"))], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    """Every link to a file of this project leads to one."""
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        assert (page.parent / target.replace("\\", "")).exists(), f"{page.name}: {target}"
