"""The whole pipeline: one command, the same bytes twice, another policy, and reruns of what an edit touches."""

import itertools
import json
import re

import polars as pl
import pytest
import yaml

from conftest import ROOT, SMOKE, Checkout
from hidden_rule.core.tables import COLLAPSE, COMPARISONS, COSTS, HISTORY, METRICS, predictions_schema, read_table
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import KINDS

CONDITIONS = ["baseline", "grpo", "sft", "sft_then_grpo"]


def test_smoke_run_writes_every_table_in_its_schema(smoke):
    results = smoke.folder / "results" / "smoke"
    labels = list(load_ruleset(smoke.folder / "rulesets" / "fincorp.yaml").labels)
    for condition in CONDITIONS:
        predictions = read_table(results / f"predictions/{condition}/seed0.parquet", predictions_schema(labels))
        splits = [("holdout", "structured"), ("test", "free"), ("test", "structured")]
        suites = [(kind, "structured") for kind in KINDS]
        assert sorted(predictions.select("suite", "decoding").unique().rows()) == sorted(splits + suites)
        total = predictions.select(pl.sum_horizontal(f"p_{label}" for label in labels)).to_series()
        assert (total - 1).abs().max() < 1e-5
        structured = predictions.filter(pl.col("decoding") == "structured")
        assert structured["is_valid"].all()
        most_probable = structured.select(pl.concat_list(f"p_{label}" for label in labels).list.arg_max()).to_series()
        assert [labels[i] for i in most_probable] == structured["predicted"].to_list()
    for condition in CONDITIONS[1:]:
        history = read_table(results / f"training/{condition}/seed0/history.parquet", HISTORY)
        assert {"loss", "learning_rate", "validation_accuracy", "kl_from_start"} <= set(history["metric"])
        rl = {"reward", "entropy", "zero_signal_share", "predicted_share"} <= set(history["metric"])
        assert rl == (condition != "sft")
    costs = read_table(results / "costs.parquet", COSTS)
    assert len(costs) == 4 + 3
    assert (costs["wall_s"] > 0).all() and (costs["peak_bytes"] > 0).all()
    metrics = read_table(results / "metrics.parquet", METRICS)
    assert set(metrics.filter(metric="accuracy")["suite"]) == {"test", "holdout", *KINDS}
    assert metrics.filter(metric="flip_rate", suite="counterfactuals", seed=0)["n"].to_list() == [4] * 4
    assert read_table(results / "comparisons.parquet", COMPARISONS).height > 0
    collapse = read_table(results / "collapse.parquet", COLLAPSE)
    assert collapse.select("condition", "label").rows() == [(c, x) for c in ("grpo", "sft_then_grpo") for x in labels]
    assert collapse["reasons"].to_list() == [["too_short"]] * 2 * len(labels)  # four steps


def test_sft_then_grpo_starts_where_sft_ended(smoke):
    def validation(condition, step):
        history = pl.read_parquet(smoke.folder / f"results/smoke/training/{condition}/seed0/history.parquet")
        rows = history.filter(pl.col("metric") == "validation_accuracy").sort("step")
        return rows["value"][step]

    assert validation("sft_then_grpo", 0) == validation("sft", -1)
    assert validation("grpo", 0) == validation("sft", 0)


def test_adapters_load_with_plain_peft(smoke, manifest):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(manifest.parent, local_files_only=True)
    PeftModel.from_pretrained(model, smoke.folder / "results/smoke/adapters/sft/seed0")
    config = json.loads((smoke.folder / "results/smoke/adapters/sft/seed0/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "SmolLM2-135M-Instruct"  # no folder of the machine that trained it
    assert (config["r"], config["lora_alpha"]) == (16, 32)


def test_provenance_has_a_hash_for_all_that_went_in(smoke):
    record = json.loads((smoke.folder / "results/smoke/provenance.json").read_text())
    hashes = re.findall(r"\b[0-9a-f]{64}\b", json.dumps(record))
    assert len(hashes) >= 1 + 1 + 4 + len(record["model"]["files"])  # lock, ruleset, splits, model files
    assert re.fullmatch(r"[0-9a-f]{40}", record["git"]["commit"])
    assert record["git"]["dirty"] is False
    resolved = yaml.safe_load((smoke.folder / "results/smoke/config.resolved.yaml").read_text())
    assert resolved["sft"]["epochs"] == 1 and resolved["lora"]["r"] == 16


def test_a_second_run_gives_the_same_bytes(smoke, tmp_path):
    again = tmp_path / "again.yaml"
    again.write_text("experiment: again\n")
    smoke.run(*SMOKE, str(again))
    for condition in CONDITIONS:
        name = f"predictions/{condition}/seed0.parquet"
        first = (smoke.folder / "results/smoke" / name).read_bytes()
        assert first == (smoke.folder / "results/again" / name).read_bytes(), condition


def test_another_policy_runs_and_no_code_knows_this_one(smoke, tmp_path):
    overlay = tmp_path / "parcels.yaml"
    overlay.write_text(
        "experiment: parcels\nruleset: tests/rulesets/parcels.yaml\n"
        "charts: {published: {}}\nsuites: {kinds: [counterfactuals, conflicts, boundaries, field_order, prevalence]}\n"
        "data: {train: 24, test: 12, validation: 12, holdout: 12}\nseeds: [0, 7]\n"
        "conditions: {grpo: false, sft_then_grpo: false, plain: {reference: logistic}, told: {prompt: oracle},\n"
        "  shots: {prompt: {examples: 3}, start_from: sft}}\n"
    )
    smoke.run(*SMOKE, str(overlay))
    labels = list(load_ruleset(ROOT / "tests/rulesets/parcels.yaml").labels)
    for condition, seed in itertools.product(["sft", "plain", "told", "shots"], [0, 7]):
        path = smoke.folder / f"results/parcels/predictions/{condition}/seed{seed}.parquet"
        read_table(path, predictions_schema(labels))
    page = (smoke.folder / "results/parcels/report.html").read_text()
    fincorp = load_ruleset(ROOT / "rulesets/fincorp.yaml")
    names = {*fincorp.labels, *fincorp.feature_names, *(rule.name for rule in fincorp.rules), "nps", "fincorp"}
    words = names - {"sector", "region"}  # words of English, and of HTML
    assert [word for word in words if word.lower() in page.lower()] == []
    sources = [
        ROOT / "workflow/Snakefile",
        *ROOT.glob("workflow/**/*.smk"),
        *ROOT.glob("workflow/**/*.py"),
        *ROOT.glob("workflow/**/*.j2"),
    ]
    for path in [*sources, *ROOT.glob("workflow/report/*.rst")]:
        text = path.read_text().lower()
        assert [word for word in words if re.search(rf"\b{word.lower()}\b", text)] == [], path


AGGREGATED = {
    "Compute metrics with intervals, and compare conditions pairwise",
    "Draw the charts",
    "Record what the results were made from",
    "Write the report",
}
TRAIN = {
    "sft": "Train sft with SFT, seed 0",
    "grpo": "Train grpo with GRPO, seed 0",
    "sft_then_grpo": "Train sft_then_grpo with GRPO, seed 0",
}
EVALUATE = {name: f"Evaluate {name}, seed 0" for name in CONDITIONS}
ASSESS = {  # by the condition whose answers it looks at
    "baseline": "What the first groups of grpo will hold, seed 0",
    "sft": "What the first groups of sft_then_grpo will hold, seed 0",
}


JUDGE = "Judge whether training by reward gave up decisions"


def retrained(*conditions):
    judged = {JUDGE for name in conditions if name != "sft"}
    return {TRAIN[name] for name in conditions} | judged | evaluated(*conditions)


def evaluated(*conditions):
    assessed = {ASSESS[name] for name in conditions if name in ASSESS}
    return {EVALUATE[name] for name in conditions} | assessed | AGGREGATED


DATA = {"Draw balanced applications and split them", "Make the suites that show what was learnt"}
EVERYTHING = retrained("sft", "grpo", "sft_then_grpo") | evaluated("baseline") | DATA
SMOKE_FILE = "experiments/smoke.yaml"
EDITS = [
    ("nothing", SMOKE_FILE, "", set()),
    ("sft.learning_rate", SMOKE_FILE, "\nsft: {learning_rate: 1.0e-4}", retrained("sft", "sft_then_grpo")),
    ("grpo.beta", SMOKE_FILE, "\ngrpo: {beta: 0.1}", retrained("grpo", "sft_then_grpo")),
    ("lora.r", SMOKE_FILE, "\nlora: {r: 8}", retrained("sft", "grpo", "sft_then_grpo")),
    (
        "the way RL explores",
        SMOKE_FILE,
        "\ndecoding: free",
        retrained("grpo", "sft_then_grpo") | {*ASSESS.values()}
        | {f"What {name} replies before its training, seed 0" for name in ("grpo", "sft_then_grpo")},
    ),
    (
        "an override of one condition",
        SMOKE_FILE,
        "\nconditions: {grpo: {method: grpo, with: {group_size: 8}}}",
        retrained("grpo") | {ASSESS["baseline"]},  # other groups
    ),
    (
        "chart settings",
        SMOKE_FILE,
        "\ncharts: {width: 700}",
        AGGREGATED - {"Compute metrics with intervals, and compare conditions pairwise"},
    ),
    ("evaluation.max_new_tokens", SMOKE_FILE, "\nevaluation: {max_new_tokens: 9}", evaluated(*CONDITIONS)),
    (
        "the suites' size",
        SMOKE_FILE,
        "\nsuites: {size: 5}",
        {"Make the suites that show what was learnt"} | evaluated(*CONDITIONS),
    ),
    (
        "one more seed",
        SMOKE_FILE,
        "\nseeds: [0, 1]",
        {message.replace("seed 0", "seed 1") for message in EVERYTHING - AGGREGATED - DATA} | AGGREGATED,
    ),
    (
        "one more condition",
        SMOKE_FILE,
        "\nconditions: {sft_twice: {method: sft, start_from: sft}}",
        {"Train sft_twice with SFT, seed 0", "Evaluate sft_twice, seed 0"} | AGGREGATED,
    ),
    (
        "one more condition with fewer rows",
        SMOKE_FILE,
        "\nconditions: {sft_few: {method: sft, with: {train_rows: 16, label_noise: 0.25}}}",
        {
            "Choose the rows and labels that sft_few is trained on",
            "Train sft_few with SFT, seed 0",
            "Evaluate sft_few, seed 0",
            "Count what each training was told",
        }
        | AGGREGATED,
    ),
    ("a split's size", SMOKE_FILE, "\ndata: {holdout: 44}", EVERYTHING),
    ("a rule's threshold", "rulesets/fincorp.yaml", ("nps >= 80", "nps >= 70"), EVERYTHING),
    (
        "the rewards' code",
        "src/hidden_rule/task/rewards.py",
        "\n# edited",
        retrained("grpo", "sft_then_grpo") | {*ASSESS.values()},
    ),
    (
        "the charts' code",
        "src/hidden_rule/report/charts/build.py",
        "\n# edited",
        {"Draw the charts", "Write the report"},
    ),
    (
        "the statistics' code",
        "src/hidden_rule/statistics/intervals.py",
        "\n# edited",
        AGGREGATED,
    ),
    ("a rule's script", "workflow/scripts/summarize.py", "\n# edited", AGGREGATED),
    ("the report's template", "workflow/report/report.html.j2", "\n", {"Write the report"}),
    (
        "side effects asked for",
        SMOKE_FILE,
        "\nside_effects: true",
        {f"Measure side effects of {name}, seed 0" for name in CONDITIONS[1:]}
        | {"Compute side effects and leaks with intervals"}
        | {"Record what the results were made from", "Write the report"},
    ),
    ("a docstring of the readme", "README.md", "\nedited", set()),
]  # fmt: skip


def edited(text: str, edit) -> str:
    """`text` with `edit`: a pair (old, new) replaces; YAML that starts with a line break merges; else it is added."""
    if isinstance(edit, tuple):
        assert edit[0] in text
        return text.replace(*edit)
    if ":" in edit:
        merged = yaml.safe_load(text)
        for key, value in yaml.safe_load(edit).items():
            merged[key] = {**merged.get(key, {}), **value} if isinstance(value, dict) else value
        return yaml.safe_dump(merged)
    return text + edit


@pytest.mark.parametrize(("what", "file", "edit", "expected"), EDITS, ids=[edit[0] for edit in EDITS])
def test_an_edit_reruns_what_depends_on_it_and_nothing_else(smoke: Checkout, what, file, edit, expected):
    path = smoke.folder / file
    before = path.read_bytes()
    try:
        path.write_text(edited(before.decode(), edit))
        assert smoke.planned(*SMOKE) == (expected and expected | {"Write down the hash of every result"})
    finally:
        path.write_bytes(before)


def test_a_wrong_setting_stops_with_one_line(smoke):
    bad = smoke.folder / "bad.yaml"
    bad.write_text("sft: {learning_rat: 1.0e-3}\n")
    done = smoke.snakemake("-n", "--configfile", "bad.yaml")
    bad.unlink()
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error: bad.yaml: sft.learning_rat: unknown key; did you mean learning_rate?" in done.stderr.splitlines()


def test_snakemakes_own_report_works(smoke, tmp_path):
    smoke.run(*SMOKE, "--report", str(tmp_path / "report.html"))
    assert "accuracy" in (tmp_path / "report.html").read_text()
