"""Tables of pages in Markdown."""

from hidden_rule.experiment.runs import Estimate


def markdown(columns: list[str], rows: list[list[str]]) -> str:
    """A table; cells are text."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))


def percent(estimate: Estimate | None) -> str:
    """`75.0 (72.2–77.6)`: a share and its interval in percent; a dash where it is undefined."""
    if estimate is None:
        return "–"
    return f"{100 * estimate.value:.1f} ({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"
