"""Whether ratios have become worse than benchmarks/baseline.json says. Pure; `__main__` reads and prints."""

from collections.abc import Mapping

MOST = 0.25
"""What a ratio may lose: less is noise where other programs run, too."""

Ratios = Mapping[str, Mapping[str, float]]
"""Figure -> runner -> ratio."""


def ratios(document: Mapping[str, object]) -> Ratios:
    """Those of a document as `__main__` writes it."""
    return {figure: found for figure, found in document.items() if figure != "details" and isinstance(found, Mapping)}


def dropped(found: Ratios, baseline: Ratios) -> list[str]:
    """A line for each ratio that lost more than a quarter. What only one of the two holds is not compared."""
    return [
        f"{figure} on {runner}: {found[figure][runner]:.2f}, the baseline says {before:.2f}"
        for figure, runners in baseline.items()
        for runner, before in runners.items()
        if runner in found.get(figure, {}) and found[figure][runner] < before * (1 - MOST)
    ]
