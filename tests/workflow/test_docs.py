"""Documentation: links resolve, tables and quoted figures are those of the published files, words are plain."""

import re
import subprocess
import tomllib

import polars as pl
import pytest
from yaml import safe_load

from conftest import ROOT
from hidden_rule.core.tables import COMPARISONS, METRICS, read_table
from hidden_rule.report import documentation

PUBLISHED = ROOT / "results" / "published"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def markdown_files():
    """Every Markdown file that is tracked or new."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = listed.stdout.split() or [str(path.relative_to(ROOT)) for path in documentation.pages(ROOT)]
    return sorted(ROOT / name for name in names)


def flat(name):
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def anchors(page):
    """The fragments by which a page's headings can be linked to, as forges make them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = [line.lstrip("#").strip().lower() for line in text.splitlines() if re.match(r"#+ ", line)]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page):
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in LINK.findall(text):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert not fragment or fragment in anchors(target), f"{link}: no such heading"


NAMED_FILE = re.compile(r"`([\w./-]+/[\w.-]+\.(?:py|smk|yaml|yml|sh|txt|in))`")
OF_A_READER = {"experiments/mine.yaml", "rulesets/mine.yaml"}  # files that the reader is to write


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_are_named_exist(page):
    roots = [ROOT, ROOT / "src" / "hidden_rule", page.parent]
    named = set(NAMED_FILE.findall(page.read_text(encoding="utf-8"))) - OF_A_READER
    assert not [name for name in named if not any((root / name).exists() for root in roots)]


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_and_make_targets_that_are_named_exist(page):
    text = page.read_text(encoding="utf-8")
    defined = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    names = re.findall(r"`(test_\w+)`", text)
    assert not [name for name in names if f"def {name}(" not in defined]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?:`|^)make ([a-z][a-z-]*)", text, re.MULTILINE)
    assert not [target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)]


@pytest.mark.parametrize("page", documentation.pages(ROOT), ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_those_of_the_published_files(page):
    text = page.read_text(encoding="utf-8")
    assert documentation.with_tables(text, PUBLISHED) == text


def test_every_table_is_shown():
    shown = "".join(page.read_text(encoding="utf-8") for page in documentation.pages(ROOT))
    assert {found[1] for found in documentation.PART.finditer(shown)} == set(documentation.TABLES)


def test_the_readme_is_short_and_the_index_complete():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if f"]({page.name})" not in index]
    assert missing == ["README.md"]


def test_one_version_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project["version"] and citation["license"] == project["license"]
    latest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert latest[1] == project["version"]


def test_the_readme_quotes_seeds_as_published():
    metrics = read_table(PUBLISHED / "metrics.parquet", METRICS)
    main = {"suite": "holdout", "decoding": "structured", "metric": "accuracy"}
    of_seeds = metrics.filter(pl.col("seed").is_not_null(), **main)
    worst, *_, best = sorted(of_seeds.filter(condition="sft")["value"])
    assert f"from {100 * worst:.1f}% to {100 * best:.1f}%" in flat("README.md")
    worst, *_, best = sorted(of_seeds.filter(condition="grpo")["value"])
    assert f"part of the rest**, {100 * worst:.1f}% to {100 * best:.1f}%;" in flat("README.md")


# (page, published run, the better condition, the other): a difference of accuracies that the page quotes
QUOTED = [
    ("README.md", ".", "sft_then_grpo", "sft"),
    ("README.md", ".", "boosting", "sft"),
    ("docs/gpus.md", "gpu", "sft", "grpo"),
    ("docs/gpus.md", "gpu", "sft_then_grpo", "sft"),
    ("docs/references.md", "references", "boosting", "sft_then_grpo"),
    ("docs/rl.md", "rl-fair", "sft", "grpo_exact_entropy_fast"),
    ("docs/rl.md", "rl-fair", "sft_double", "sft_then_grpo"),
    ("docs/rl.md", "rl-fair", "sft_then_grpo", "sft"),
    ("docs/rl.md", "rl-fair", "grpo_shaped", "grpo"),
    ("docs/rl.md", "rl-fair", "grpo_exact", "grpo"),
    ("docs/rl.md", "rl-fair", "grpo_exact_entropy_fast", "grpo_exact_fast"),
    ("docs/rl.md", "rl-fair", "grpo_exact_entropy_fast", "grpo_entropy_fast"),
    ("docs/rl.md", "rl-fair", "grpo_equal_time", "grpo"),
    ("docs/rl.md", "rl-fair", "sft", "grpo_equal_time"),
    ("docs/label-curves.md", "label-efficiency", "sft_labels_400", "sft_labels_1600"),
    ("docs/label-curves.md", "label-efficiency", "sft_labels_400", "sft_labels_800"),
    ("docs/label-curves.md", "label-noise", "sft_noise_0_05", "sft_noise_0_2"),
]


def difference(run, a, b):
    """Points by which `a` is more accurate than `b` and their interval, rounded as pages write them."""
    table = read_table(PUBLISHED / run / "comparisons.parquet", COMPARISONS)
    main = table.filter(pl.col("seed").is_null(), suite="holdout", decoding="structured", metric="accuracy")
    row = main.filter(condition_a=a, condition_b=b)
    values = row.select("difference", "ci_low", "ci_high").row(0) if len(row) else None
    if values is None:
        value, low, high = main.filter(condition_a=b, condition_b=a).select("difference", "ci_low", "ci_high").row(0)
        values = (-value, -high, -low)
    return tuple(f"{100 * value:.1f}".replace("-", "−") for value in values)


@pytest.mark.parametrize("quote", QUOTED, ids=lambda quote: f"{quote[0]}:{quote[2]}")
def test_quoted_differences_are_the_published_ones(quote):
    page, *pair = quote
    value, low, high = difference(*pair)
    between = f"{low}–{high}" if "−" not in low + high else f"{low} to {high}"
    assert re.search(rf"{re.escape(value)}[^()]{{0,45}}[(,] ?(95% CI )?{re.escape(between)}", flat(page))


def test_the_effect_of_noise_is_quoted_with_its_interval():
    value, low, high = difference("label-noise", "sft_noise_0", "sft_noise_0_2")
    assert f"{value} points has a 95% interval from {low} to {high} (p = 0.18)" in flat("docs/label-curves.md")


def test_what_ran_on_a_gpu_is_said():
    pages = [flat(page.relative_to(ROOT)) for page in markdown_files()]
    assert not any("There is no GPU table" in page or "no figures of a GPU" in page for page in pages)
    text = flat("docs/gpus.md")
    for part in ("vLLM", "Several GPUs", "Snakemake's own jobs", "real weights"):
        assert part in text.partition("## Not run on a GPU")[2]


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_words_are_those_of_the_field(page):
    private = "decides rightly|told apart|training by reward|carr(?:y|ies) (?:a|no) signal|unheard|as it comes|quicken"
    assert not re.search(private, flat(page.relative_to(ROOT)))


@pytest.mark.parametrize("page", markdown_files(), ids=lambda page: str(page.relative_to(ROOT)))
def test_the_embedded_model_is_called_what_it_is(page):
    text = flat(page.relative_to(ROOT))
    assert "SmolLM2-135M" not in text or "Q4_1 GGUF" in text
