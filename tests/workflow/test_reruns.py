"""Reruns: an edit runs again exactly what depends on it, an edit that changes nothing runs nothing again.

The experiment has not run here: its results are empty files that Snakemake was told to take for finished.
"""

import contextlib
import re

import pytest
import yaml
from smoke_jobs import (
    AGGREGATED,
    ASSESS,
    ASSESSED,
    CASES,
    CHARTS,
    COLLAPSE,
    CONDITIONS,
    DATA,
    EVERYTHING,
    FIT,
    INSPECT,
    KEEP,
    KEEP_EVALUATED,
    MANIFEST,
    MODELS,
    PREPARE,
    PROVENANCE,
    REPORT,
    RL,
    SEARCH,
    SUITES,
    SUMMARY,
    evaluated,
    retrained,
)

from conftest import SMOKE, Checkout
from hidden_rule.core.sources import NO_INFLUENCE

pytestmark = pytest.mark.slow
PACKAGE = "src/hidden_rule"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Checkout:
    """A checkout whose smoke experiment passes for finished. Tests leave it as they found it."""
    checkout = Checkout(tmp_path_factory.mktemp("finished"))
    listed = checkout.snakemake("--summary", *SMOKE)
    assert listed.returncode == 0, listed.stderr[-3000:]
    for line in listed.stdout.splitlines()[1:]:
        path = checkout.folder / line.split("\t")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    checkout.run("--touch", "--forceall", *SMOKE)
    return checkout


@contextlib.contextmanager
def edits(checkout: Checkout, changes: dict):
    """Edit files of a checkout for a while: by file, a function of its text."""
    before = {name: (checkout.folder / name).read_bytes() for name in changes}
    try:
        for name, change in changes.items():
            (checkout.folder / name).write_text(change(before[name].decode()))
        yield
    finally:
        for name, content in before.items():
            (checkout.folder / name).write_bytes(content)


def planned(checkout: Checkout) -> set[str]:
    """The jobs that would run, apart from the manifest, which follows any other."""
    jobs = checkout.planned(*SMOKE)
    assert not jobs or jobs >= MANIFEST
    return jobs - MANIFEST


def test_a_finished_run_runs_nothing_again(finished):
    assert planned(finished) == set()


def with_settings(overlay: str):
    """YAML merged into a file: dictionaries of the first level are merged, all else is replaced."""

    def change(text: str) -> str:
        merged = yaml.safe_load(text)
        for key, value in yaml.safe_load(overlay).items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
        return yaml.safe_dump(merged)

    return change


SETTINGS = [  # of the experiment, and what runs again under them
    ("sft: {learning_rate: 1.0e-4}", retrained("sft", "sft_then_grpo")),
    ("grpo: {beta: 0.1}", retrained(*RL)),
    ("lora: {r: 8}", retrained("sft", *RL)),
    (
        "decoding: free",
        INSPECT | retrained(*RL) | ASSESSED | {f"Sample replies before training {name}, seed 0" for name in RL},
    ),
    (
        "conditions: {grpo: {method: grpo, with: {group_size: 8}}}",
        retrained("grpo") | {ASSESS["baseline"]},  # other groups
    ),
    ("charts: {width: 700}", CHARTS | REPORT | PROVENANCE),
    ("purpose: comparison", CHARTS | CASES | REPORT | PROVENANCE),
    ("evaluation: {max_new_tokens: 17}", INSPECT | evaluated(*CONDITIONS)),
    ("lora: {target_modules: [q_proj]}", INSPECT | retrained("sft", *RL)),
    ("lora: {last_layers: 6}", INSPECT | KEEP | MODELS),
    ("suites: {size: 5}", SUITES | KEEP_EVALUATED | FIT | evaluated(*CONDITIONS)),
    (
        "seeds: [0, 1]",
        {job.replace("seed 0", "seed 1") for job in EVERYTHING - AGGREGATED - DATA} | AGGREGATED,
    ),
    (
        "conditions: {sft_twice: {method: sft, start_from: sft}}",
        {"Train sft_twice with sft, seed 0", "Evaluate sft_twice, seed 0"} | AGGREGATED,
    ),
    (
        "conditions: {sft_few: {method: sft, with: {train_rows: 16, label_noise: 0.25}}}",
        {
            "Select the training rows and labels of sft_few",
            "Train sft_few with sft, seed 0",
            "Evaluate sft_few, seed 0",
            "Measure the supervision of each training",
        }
        | AGGREGATED,
    ),
    ("data: {holdout: 44}", EVERYTHING),
    (
        "side_effects: true",
        {f"Measure side effects of {name}, seed 0" for name in CONDITIONS[1:]}
        | {"Summarize side effects and leaks"}
        | PROVENANCE
        | REPORT,
    ),
]


@pytest.mark.parametrize(("overlay", "expected"), SETTINGS, ids=[overlay for overlay, _ in SETTINGS])
def test_a_setting_reruns_what_depends_on_it(finished, overlay, expected):
    with edits(finished, {"experiments/smoke.yaml": with_settings(overlay)}):
        assert planned(finished) == expected


def another_statement(text: str) -> str:
    return f"{text}\nCHANGED = 1\n"


def another_look(text: str) -> str:
    """A comment, an edited docstring, and other white space."""
    assert '"""' in text
    return text.replace('"""', '"""Edited. ', 1).replace("\n\n\n", "\n\n\n\n") + "\n# edited\n"


INPUTS = [  # files that no job makes
    ("rulesets/fincorp.yaml", lambda text: text.replace("nps >= 80", "nps >= 70"), PREPARE | EVERYTHING),
    ("workflow/report/report.html.j2", lambda text: text + "\n", REPORT),
    ("workflow/report/cases.js", lambda text: text + "\n", CASES),
    ("envs/requirements.txt", lambda text: text + "# edited\n", PROVENANCE | REPORT),
    (
        "workflow/schemas/ruleset.schema.yaml",
        lambda text: re.sub(r"description: (\w)", r"description: Edited. \1", text),
        set(),
    ),
    ("README.md", lambda text: text + "\nedited\n", set()),
]


@pytest.mark.parametrize(("name", "change", "expected"), INPUTS, ids=[name for name, *_ in INPUTS])
def test_an_input_reruns_what_depends_on_it(finished, name, change, expected):
    with edits(finished, {name: change}):
        assert planned(finished) == expected


STATEMENTS = [  # what runs again after an expression of a module or a script has changed
    (f"{PACKAGE}/core/tables.py", PREPARE | EVERYTHING),
    (f"{PACKAGE}/core/costs.py", PREPARE | KEEP | MODELS | FIT),
    (f"{PACKAGE}/task/rewards.py", retrained(*RL) | ASSESSED),
    (f"{PACKAGE}/experiment/conditions.py", COLLAPSE | AGGREGATED),
    (f"{PACKAGE}/experiment/sweep.py", set()),  # of the config alone: what it changes there is in params
    (f"{PACKAGE}/task/ordinary_text.py", set()),  # nothing here asks for side effects
    (f"{PACKAGE}/statistics/intervals.py", SEARCH | (AGGREGATED - CASES)),
    (f"{PACKAGE}/report/charts/build.py", CHARTS | REPORT),
    (f"{PACKAGE}/report/publish.py", set()),
    ("workflow/scripts/train_sft.py", retrained("sft", "sft_then_grpo")),
    ("workflow/scripts/train_grpo.py", retrained(*RL)),
    ("workflow/scripts/summarize.py", SUMMARY | CHARTS | REPORT | PROVENANCE),
]


@pytest.mark.parametrize(("name", "expected"), STATEMENTS, ids=[name for name, _ in STATEMENTS])
def test_a_changed_expression_reruns_what_depends_on_it(finished, name, expected):
    with edits(finished, {name: another_statement}):
        assert planned(finished) == expected


def test_comments_docstrings_and_formatting_rerun_nothing(finished):
    with edits(finished, dict.fromkeys([name for name, _ in STATEMENTS], another_look)):
        assert planned(finished) == set()


def test_modules_without_influence_rerun_nothing(finished):
    files = [f"src/{name.replace('.', '/')}.py" for name in NO_INFLUENCE]
    with edits(finished, dict.fromkeys(files, another_statement)):
        assert planned(finished) == set()


def test_a_further_method_is_a_script_and_an_entry_in_the_schema(finished):
    """A method of its own name, with SFT's settings, that trains by another script: no rule knows of it."""
    script = finished.folder / "workflow" / "scripts" / "train_kto.py"
    changes = {
        "workflow/schemas/config.schema.yaml": lambda text: text.replace(
            "enum: [sft, grpo,", "enum: [kto, sft, grpo,"
        ).replace('  sft: {$ref: "#/$defs/sft"}\n', '  sft: {$ref: "#/$defs/sft"}\n  kto: {$ref: "#/$defs/sft"}\n'),
        "experiments/smoke.yaml": with_settings("conditions: {kto: {method: kto, start_from: sft}}"),
    }
    new = {"Train kto with kto, seed 0", "Evaluate kto, seed 0"} | AGGREGATED
    with edits(finished, changes):
        script.write_text((finished.folder / "workflow" / "scripts" / "train_sft.py").read_text())
        try:
            assert planned(finished) == new
        finally:
            script.unlink()
        done = finished.snakemake("-n", *SMOKE)
        assert done.returncode == 1 and "train_kto.py" in done.stdout + done.stderr
