"""The zip for a paper: LaTeX and CSV tables, figures as SVG and PDF, a paragraph of methods, BibTeX, a schema.

make paper RESULTS=results/seeds                    # -> results/seeds/paper.zip
make paper RESULTS=results/seeds FONT='Liberation Serif' OUT=mine.zip
"""

import argparse
import csv
import io
import zipfile
from pathlib import Path

from hidden_rule.core.errors import UserError, one_line_errors
from hidden_rule.core.files import whole
from hidden_rule.experiment.display import DisplayedResults, displayed
from hidden_rule.experiment.results import Results
from hidden_rule.report import tables
from hidden_rule.report.cost_table import cost_table
from hidden_rule.report.finished import read_finished
from hidden_rule.report.paper.bibliography import bibtex
from hidden_rule.report.paper.data_files import csv_files, plain_cell, results_schema
from hidden_rule.report.paper.figures import FONT, SMALLEST, WIDTHS_MM, charts_of, check_font, figures
from hidden_rule.report.paper.latex import latex_table
from hidden_rule.report.paper.methods import cited, methods_paragraph
from hidden_rule.report.text.badges import badges
from hidden_rule.report.text.phrases import listing

WRITTEN = (1980, 1, 1, 0, 0, 0)  # of every file in the zip: the same run gives the same bytes


def shown_tables(results: DisplayedResults) -> dict[str, dict]:
    """Tables of the report by name; those without a row are left out."""
    main = results.main
    found = {
        "summary": tables.summary_table(results, main),
        "comparisons": tables.comparison_table(results, main),
        "hidden_rules": tables.hidden_rules_table(results, main),
        "decisions": tables.label_table(results, main),
        "seeds": tables.seed_table(results, main) if len(results.seeds) > 1 else None,
        "suites": tables.suites_table(results),
        "settings": tables.settings_table(results),
        "costs": cost_table(results),
    }
    for setting in results.evaluated[1:]:
        found[f"summary_{setting.suite}_{setting.decoding}"] = tables.summary_table(results, setting)
    return {name: table for name, table in found.items() if table and table["rows"]}


def as_csv(table: dict) -> str:
    """A table as it is shown, as CSV."""
    text = io.StringIO()
    rows = [[plain_cell(cell) if isinstance(cell, str) else cell for cell in row] for row in table["rows"]]
    csv.writer(text, lineterminator="\n").writerows([table["columns"], *rows])
    return text.getvalue()


def paper_files(results: Results, font: str = FONT) -> dict[str, bytes]:
    """Content of the zip by file name."""
    shown = displayed(results)
    check_font(font)
    texts: dict[str, str] = {}
    for name, table in shown_tables(shown).items():
        texts[f"tables/{name}.tex"] = latex_table(table, name.replace("_", "-"))
        texts[f"tables/{name}.csv"] = as_csv(table)
    data = csv_files(results)
    texts |= {f"data/{name}": text for name, text in data.items()}
    paragraph = methods_paragraph(shown)
    texts |= {"methods.tex": paragraph, "references.bib": bibtex(cited(paragraph))}
    drawn = figures(results, font)
    texts |= {"results-schema.md": results_schema(data), "README.md": readme(results, drawn)}
    return {name: text.encode() for name, text in texts.items()} | drawn


def readme(results: Results, drawn) -> str:
    """What lies in the zip, and what the run is not for; drawn: the names of the figures."""
    warnings = [f"**{badge.capitalize()}.**\n" for badge in badges(results)]
    lines = [
        f"# Experiment {' '.join(str(results.config.get('experiment', '')).split())}\n",
        *warnings,
        "- `methods.tex`, `references.bib`: a paragraph of methods, written from the config, and what it cites",
        "- `tables/*.tex` (booktabs), `tables/*.csv`: tables as the report shows them",
        "- `data/*.csv`: numbers in full precision; `results-schema.md` says what each column is",
        "- `figures/*-85mm.*`, `figures/*-180mm.*`: figures for one column and for two, without titles\n",
        *too_small(charts_of(results), drawn),
        "Letters outside of Latin scripts in names need XeLaTeX or LuaLaTeX.",
    ]
    return "\n".join([*lines, ""])


def too_small(charts: list[str], drawn) -> list[str]:
    """Which figures are left out, because their text would be too small."""
    missing = [f"{name} at {mm} mm" for mm in WIDTHS_MM for name in charts if f"figures/{name}-{mm}mm.svg" not in drawn]
    return (
        [f"Left out, as their text would be smaller than {SMALLEST:g} points: {listing(missing)}.\n"] if missing else []
    )


def write_paper(folder: str, output: str = "", font: str = FONT) -> Path:
    """Write the zip of a finished run; returns its path, by default `paper.zip` in the run's folder."""
    results = read_finished(folder, "RESULTS")
    path = Path(output) if output else results.layout.folder / "paper.zip"
    if path.is_dir():
        raise UserError(path, "OUT", "is a folder", "name a file, as in OUT=paper.zip")
    content = paper_files(results, font)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for name, bytes_ in sorted(content.items()):
            file.writestr(zipfile.ZipInfo(f"paper/{name}", WRITTEN), bytes_, zipfile.ZIP_DEFLATED)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description="Tables, figures and texts of a finished run for a paper.")
    parser.add_argument("results", help="folder of a finished run")
    parser.add_argument("--out", default="", help="the zip; by default paper.zip in the run's folder")
    parser.add_argument("--font", default=FONT, help="family of the figures' font")
    given = parser.parse_args()
    with one_line_errors():
        print(f"paper: {write_paper(given.results, given.out, given.font)}")


if __name__ == "__main__":
    main()
