"""What `make paper` writes: LaTeX that holds whatever names say, numbers without null seeds, figures of their size."""

import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
import zipfile

import polars as pl
import pytest

from conftest import ROOT
from hidden_rule.core import tables
from hidden_rule.core.errors import UserError
from hidden_rule.core.tables import METRICS
from hidden_rule.experiment.display import displayed
from hidden_rule.report.finished import read_finished
from hidden_rule.report.paper import figures as paper_figures
from hidden_rule.report.paper.bibliography import ENTRIES, bibtex
from hidden_rule.report.paper.build import as_csv, shown_tables, too_small, write_paper
from hidden_rule.report.paper.data_files import FILES, SAID, declared, flat_table, results_schema
from hidden_rule.report.paper.figures import WIDTHS_MM, Drawing, charts_of, drawn_to
from hidden_rule.report.paper.latex import escaped, latex_table
from hidden_rule.report.paper.methods import LOSSES, METHODS, REFERENCES, cited, methods_paragraph
from hidden_rule.report.text.phrases import percent
from synthetic import WORLD, make_ruleset, write_results

PUBLISHED = ROOT / "results" / "published"
HOSTILE = r"\input{/etc/passwd} $x$ 50% a_b #1 {y} ~^ & \\ <script> | " + '"q" `r`'
COMMANDS = re.compile(r"\\[a-zA-Z]+")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("92.5% (82.9–96.9)", r"92.5\% (82.9--96.9)"),
        ("SFT → GRPO", r"SFT \ensuremath{\rightarrow} GRPO"),
        ("a_b & c#1 {x}", r"a\_b \& c\#1 \{x\}"),
        ("\\input{x}", r"\textbackslash{}input\{x\}"),
        ("−1.6 ≥ $5", r"\ensuremath{-}1.6 \ensuremath{\geq} \$5"),
        ("two\nlines\x07 é 決", "two lines é 決"),
    ],
)
def test_text_is_escaped(text, shown):
    assert escaped(text) == shown


def check_latex(source: str) -> None:
    """Braces and environments close, math stands in \\ensuremath alone, and rows have as many cells as columns."""
    code = "\n".join(re.sub(r"(?<!\\)%.*", "", line) for line in source.splitlines())
    bare = re.sub(r"\\[\\{}$&#_%]", "", code)
    assert bare.count("{") == bare.count("}") and not set("$#^~") & set(re.sub(r"~\\cite", "", bare))
    assert re.findall(r"\\begin\{(\w+)\}", code) == re.findall(r"\\end\{(\w+)\}", code)[::-1]
    if tabular := re.search(r"\\begin\{tabular\}\{(l+)\}(.*)\\end\{tabular\}", code, re.DOTALL):
        rows = [line for line in tabular[2].splitlines() if line.endswith(r" \\")]
        assert rows and {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {len(tabular[1])}


@pytest.mark.parametrize("n_columns", [2, 9])
def test_a_table_of_hostile_names_is_a_table(n_columns):
    table = {"caption": HOSTILE, "columns": [HOSTILE] * n_columns, "rows": [[HOSTILE] * n_columns] * 3}
    source = latex_table(table, "x")
    check_latex(source)
    assert r"\input" not in COMMANDS.findall(source) and r"\toprule" in source and r"\bottomrule" in source
    assert r"\resizebox{\ifdim\width>\textwidth" in source  # never wider than the text


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """The zip of a published run of three seeds, by file name; its experiment and commit have hostile names."""
    folder = tmp_path_factory.mktemp("paper") / "mine"
    shutil.copytree(PUBLISHED / "label-noise", folder)
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    record["config"]["experiment"] = record["config"]["model"]["revision"] = HOSTILE
    (folder / "provenance.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(paper_figures, "charts_of", lambda results: ["accuracy"])  # one tells as much as all
        path = write_paper(str(folder), str(folder / "out" / "paper.zip"))
    with zipfile.ZipFile(path) as file:
        return {name.removeprefix("paper/"): file.read(name) for name in file.namelist()}


def test_every_latex_file_is_well_formed_and_cites_what_there_is(files):
    sources = {name: text.decode() for name, text in files.items() if name.endswith(".tex")}
    assert {"methods.tex", "tables/summary.tex", "tables/comparisons.tex", "tables/costs.tex"} <= {*sources}
    for source in sources.values():
        check_latex(source)
        assert r"\input" not in COMMANDS.findall(source)
    entries = re.findall(r"^@\w+\{(\w+),", files["references.bib"].decode(), re.MULTILINE)
    assert entries == cited(sources["methods.tex"]) and {"hu2022lora", "shao2024deepseekmath"} <= {*entries}
    assert "rafailov2023direct" not in entries


def test_numbers_say_which_rows_are_pooled(files):
    rows = list(csv.DictReader(io.StringIO(files["data/metrics.csv"].decode())))
    assert "seed" not in rows[0] and {row["pooled"] for row in rows} == {"true", "false"}
    assert {row["seeds"] for row in rows if row["pooled"] == "true"} == {"0 1 2"}
    assert {row["seeds"] for row in rows if row["pooled"] == "false"} == {"0", "1", "2"}


def test_a_table_is_what_the_report_shows(files):
    results = read_finished(PUBLISHED / "label-noise")
    rows = {row["condition"]: row for row in csv.DictReader(io.StringIO(files["tables/summary.csv"].decode()))}
    name = displayed(results).conditions[0]
    shown = displayed(results).estimate(name, results.main, "accuracy")
    assert rows[name]["accuracy"].startswith(percent(shown.value))


def test_figures_have_their_width_and_no_title(files):
    names = {name for name in files if name.startswith("figures/")}
    assert names == {f"figures/accuracy-{mm}mm.{form}" for mm in WIDTHS_MM for form in ("svg", "pdf")}
    for mm in WIDTHS_MM:
        root = ElementTree.fromstring(files[f"figures/accuracy-{mm}mm.svg"])
        assert root.get("width") == f"{mm}mm"
        assert float(root.get("viewBox").split()[2]) == pytest.approx(mm * 96 / 25.4, rel=0.03)  # text is not scaled
        texts = ["".join(one.itertext()) for one in root.iter() if one.tag.endswith("text")]
        assert "Accuracy" not in texts and any("SFT" in text or "sft" in text for text in texts)
        box = re.search(rb"MediaBox ?\[0 0 ([\d.]+)", files[f"figures/accuracy-{mm}mm.pdf"])
        assert float(box[1]) == pytest.approx(mm * 72 / 25.4, abs=0.1)
        assert b"/Font" in files[f"figures/accuracy-{mm}mm.pdf"]


def test_a_published_run_has_the_charts_that_follow_from_its_tables(tmp_path):
    assert charts_of(read_finished(PUBLISHED / "label-noise")) == [
        "accuracy",
        "forest",
        "hidden_rule",
        "cost",
        "labels",
    ]
    whole = write_results(tmp_path, make_ruleset(4), WORLD, sizes=[("holdout", "structured", 40, 0)])
    assert {"confusion", "calibration", "training"} <= {*charts_of(whole)}
    assert not {"suites", "expected_cost", "labels"} & {*charts_of(whole)}


def test_a_forest_plot_has_its_width_whatever_its_names():
    results = read_finished(PUBLISHED / "rl-fair")
    for mm in WIDTHS_MM:
        target = mm * 96 / 25.4
        assert drawn_to(results, "forest", target, "sans-serif").width == pytest.approx(target, rel=0.03)


def test_a_drawing_is_scaled_as_a_whole():
    drawing = Drawing.of('<svg xmlns="http://www.w3.org/2000/svg" width="200" height="50"><g/></svg>')
    root = ElementTree.fromstring(drawing.as_svg(85))
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("85mm", "21.25mm", "0 0 200.0 50.0")


def test_the_schema_says_every_column(files):
    of = declared()
    schemas = {name for name in dir(tables) if isinstance(getattr(tables, name), pl.Schema)}
    assert {*of} == schemas
    for name in schemas:
        schema = getattr(tables, name)
        assert [*of[name]] == [*schema] and [kind for kind, _ in of[name].values()] == [
            str(dtype).partition("(")[0] for dtype in schema.values()
        ]
    for name in FILES:
        for column, (_, comment) in of[name].items():
            assert comment or column in SAID, f"core/tables.py says nothing of {name}.{column}"
    text = files["results-schema.md"].decode()
    assert "## metrics.csv" in text and "| wall_s | Float64 | seconds |" in text
    assert "| pooled | Boolean |" in text and "| seed |" in results_schema(["costs.csv"])
    for name, file in FILES.items():
        if f"data/{file}.csv" in files:
            head = files[f"data/{file}.csv"].decode().splitlines()[0].split(",")
            part = text.split(f"## {file}.csv")[1].split("\n## ")[0]
            assert re.findall(r"^\| (\w+) \|", part, re.MULTILINE)[1:] == head, name


def test_tables_without_seeds_keep_their_columns():
    frame = pl.DataFrame({"condition": ["a"], "seed": [3], "reasons": [["x", "y"]]})
    assert flat_table(frame, "COLLAPSE", [3]).rows() == [("a", 3, "x; y")]
    metrics = pl.DataFrame({"condition": ["a", "a"], "seed": [3, None]}, schema_overrides={"seed": METRICS["seed"]})
    assert flat_table(metrics, "METRICS", [3, 4]).rows() == [("a", False, "3"), ("a", True, "3 4")]


def test_every_method_and_loss_has_its_reference():
    schema = (ROOT / "workflow" / "schemas" / "config.schema.yaml").read_text(encoding="utf-8")
    methods = re.search(r"method: \{enum: \[([^\]]*)\], description: How it is trained", schema)[1].split(", ")
    assert {*methods} == {*METHODS}
    keys = [key for _, keys in METHODS.values() for key in keys] + [*LOSSES.values()]
    keys += [key for _, keys in REFERENCES.values() for key in keys]
    assert {*keys} <= {*ENTRIES}
    text = bibtex(ENTRIES)
    assert text.count("{") == text.count("}") and len(re.findall("^@", text, re.MULTILINE)) == len(ENTRIES)
    with pytest.raises(KeyError):
        bibtex(["nobody"])


def test_the_paragraph_follows_the_config():
    """Of one seed McNemar's test, of several none; what a run does not do is not said."""
    one, three = (displayed(read_finished(PUBLISHED / name)) for name in ("rl-fair", "label-noise"))
    said, of_three = methods_paragraph(one), methods_paragraph(three)
    assert "under the single seed 0" in said and "exact McNemar" in said and "shao2024deepseekmath" in said
    assert "under seeds 0, 1 and 2" in of_three and "McNemar" not in of_three and "proximal" not in of_three
    assert "SmolLM2-135M-Instruct" in said and "allal2025smollm2" in said and "LoRA adapter" in said
    for text in (said, of_three):
        check_latex(text)
    assert shown_tables(one)["summary"]["rows"] and "seeds" not in shown_tables(one)


FAULTS = [
    (lambda of: {"font": "No Such Font"}, "FONT: no font 'No Such Font' is installed; name the family"),
    (lambda of: {"font": '"><script>'}, "FONT: no font"),
    (lambda of: {"output": str(of)}, "OUT: is a folder; name a file, as in OUT=paper.zip"),
    (lambda of: {"folder": str(of / "nowhere")}, "RESULTS: does not exist; name the folder of a finished run"),
]


@pytest.mark.parametrize(("change", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_what_cannot_be_written_is_said_in_one_line(tmp_path, change, said):
    given = {"folder": str(PUBLISHED / "label-noise"), "output": str(tmp_path / "paper.zip")}
    with pytest.raises(UserError) as caught:
        write_paper(**given | change(tmp_path))
    assert said in str(caught.value) and not (tmp_path / "paper.zip").exists()


def test_plots_that_cannot_shrink_are_scaled():
    results = read_finished(PUBLISHED / "label-noise")
    narrow = drawn_to(results, "accuracy", 90, "sans-serif")
    assert narrow.width > 90 and 'width="24mm"' in narrow.as_svg(24)
    assert not narrow.is_readable(10) and narrow.is_readable(85)
    assert too_small(
        ["cost", "forest"], ["figures/cost-85mm.svg", "figures/cost-180mm.svg", "figures/forest-180mm.svg"]
    ) == ["Left out, as their text would be smaller than 6 points: forest at 85 mm.\n"]
    assert too_small(["cost"], ["figures/cost-85mm.svg", "figures/cost-180mm.svg"]) == []


FORMULAS = {
    "=cmd|' /C calc'!A0": True,
    "@SUM(1)": True,
    "+1+cmd|' /C calc'!A0": True,
    "-1+cmd|' /C calc'!A0": True,
    "-2+3": True,
    "\t=1": True,
    "＝1+1": True,
    "=": False,
    "-": False,
    "–": False,
    "-1.5": False,
    "+43.3%": False,
    "-3.2 (-4.0 to -1.1)": False,
    "APPROVE": False,
    "a = b": False,
    "": False,
}


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_is_a_formula_for_a_spreadsheet(text):
    table = {"columns": ["a"], "rows": [[text], [1.5]]}
    assert next(csv.reader(io.StringIO(as_csv(table).partition("\n")[2]))) == (
        [f"'{text}"] if FORMULAS[text] else [text]
    )
