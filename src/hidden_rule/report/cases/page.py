"""The page of cases: `results/{experiment}/cases.html`, one file that needs no network.

Every text of a case, a reply or a user's file reaches it as JSON and is shown as text (`textContent`); nothing is
interpreted. A link to a case is `cases.html#case-{id}`.
"""

from dataclasses import dataclass
from pathlib import Path

from hidden_rule.core.files import write_text
from hidden_rule.experiment.display import displayed
from hidden_rule.experiment.results import Results
from hidden_rule.report.cases.content import content_of
from hidden_rule.report.cases.selection import MOST, Selection, select_cases
from hidden_rule.report.standalone import render_page
from hidden_rule.report.text.badges import badges
from hidden_rule.report.text.phrases import listing


@dataclass(frozen=True)
class Parts:
    """Files that the page is made of."""

    template: Path
    style: Path
    script: Path

    @classmethod
    def within(cls, folder) -> "Parts":
        """Those of a folder, `workflow/report` in the repository."""
        return cls(*(Path(folder) / name for name in ("cases.html.j2", "standalone.css", "cases.js")))


def write_cases(results: Results, output, parts: Parts, most: int = MOST) -> None:
    """Write the page to `output`; most: cases that it may hold."""
    shown = displayed(results)
    selection = select_cases(shown, most)
    context = {
        "experiment": results.config["experiment"],
        "badges": badges(results),
        "note": note_of(selection, results.ruleset.case),
        "many": results.ruleset.case.many,
        "data": content_of(shown, selection),
    }
    write_text(render_page(parts.template, context, parts.style, parts.script), output)


def note_of(selection: Selection, nouns) -> str:
    """How many of the evaluated cases the page holds, and which."""
    total = nouns.counted(selection.n_evaluated)
    if not selection.is_sample:
        return f"All {total} that were evaluated."
    n, shown = selection.n_informative, selection.n_informative_shown
    by = listing(selection.by) if len(selection.by) <= 4 else f"{len(selection.by)} conditions"
    which = f"{shown:,} of the {n:,}" if shown < n else f"all {n:,}"
    rest = len(selection.ids) - shown
    others = f", and {rest:,} of the others, drawn at random" if rest else ", drawn at random"
    return (
        f"A sample: {len(selection.ids):,} of {total} that were evaluated. It holds {which} that {by} decided wrongly "
        f"or differently{others}; shares within it are not those of all {nouns.many}."
    )
