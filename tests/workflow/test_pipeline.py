"""The whole pipeline: one command, another policy. That a second run gives the same bytes: test_torture.py."""

import itertools
import json
import re

import polars as pl
import yaml
from smoke_jobs import CONDITIONS, REFERENCES

from conftest import ROOT, SMOKE
from hidden_rule.core.tables import COLLAPSE, COMPARISONS, COSTS, HISTORY, METRICS, predictions_schema, read_table
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import KINDS


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
    assert len(costs) == 4 + 3 + 2 * len(REFERENCES)  # of a classifier fitting and answering
    assert (costs["wall_s"] > 0).all()
    of_models = costs.filter(~pl.col("condition").is_in(REFERENCES))
    assert (of_models["peak_bytes"] > 0).all()
    metrics = read_table(results / "metrics.parquet", METRICS)
    assert set(metrics.filter(metric="accuracy")["suite"]) == {"test", "holdout", *KINDS}
    assert metrics.filter(metric="flip_rate", suite="counterfactuals", seed=0)["n"].to_list() == [4] * 7
    for name in REFERENCES:
        predictions = read_table(results / f"predictions/{name}/seed0.parquet", predictions_schema(labels))
        assert set(predictions["decoding"]) == {"structured"}
    page = (results / "report.html").read_text(encoding="utf-8")
    first_screen = page[page.index("<h1") : page.index('<details class="section"')]
    assert "smoke test: numbers mean nothing" in first_screen and "one seed: not for decisions" in first_screen
    for chart in sorted(results.glob("charts/*.svg")):
        assert "Smoke test: numbers mean nothing" in chart.read_text(encoding="utf-8"), chart.name
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
    (base,) = (smoke.folder / "results/models").iterdir()
    assert config["base_model_name_or_path"] == f"./results/models/{base.name}"  # no path of this machine
    assert (config["r"], config["lora_alpha"]) == (16, 32)


def test_provenance_has_a_hash_for_all_that_went_in(smoke):
    record = json.loads((smoke.folder / "results/smoke/provenance.json").read_text())
    hashes = re.findall(r"\b[0-9a-f]{64}\b", json.dumps(record))
    assert len(hashes) >= 1 + 1 + 4 + len(record["model"]["files"])  # lock, ruleset, splits, model files
    assert re.fullmatch(r"[0-9a-f]{40}", record["git"]["commit"])
    assert record["git"]["dirty"] is False
    resolved = yaml.safe_load((smoke.folder / "results/smoke/config.resolved.yaml").read_text())
    assert resolved["sft"]["epochs"] == 1 and resolved["lora"]["r"] == 16


def test_another_policy_and_model_run_and_no_code_knows_this_one(smoke, tiny_manifest, tmp_path):
    overlay = tmp_path / "parcels.yaml"
    overlay.write_text(
        "experiment: parcels\nruleset: tests/rulesets/parcels.yaml\n"
        f"model: {{source: path, id: '{tiny_manifest.parent / 'model'}'}}\n"
        "suites: {kinds: [counterfactuals, conflicts, boundaries, field_order, prevalence]}\n"
        "data: {train: 24, test: 12, validation: 12, holdout: 12}\nseeds: [0, 7]\n"
        "conditions: {grpo: false, sft_then_grpo: false, constant: false, boosting: false, told: {prompt: oracle},\n"
        "  shots: {prompt: {examples: 3}, start_from: sft}}\n"
    )
    smoke.run(*SMOKE, str(overlay))
    assert smoke.said.splitlines()[-1] == "report: results/parcels/report.html"
    labels = list(load_ruleset(ROOT / "tests/rulesets/parcels.yaml").labels)
    for condition, seed in itertools.product(["sft", "logistic", "told", "shots"], [0, 7]):
        path = smoke.folder / f"results/parcels/predictions/{condition}/seed{seed}.parquet"
        read_table(path, predictions_schema(labels))
    page = (smoke.folder / "results/parcels/report.html").read_text()
    page = re.sub(r"<script.*?</script>|data:[^\"]*|<dl class=.glossary.*?</dl>", "", page, flags=re.DOTALL)
    fincorp = load_ruleset(ROOT / "rulesets/fincorp.yaml")
    names = {*fincorp.labels, *fincorp.feature_names, *(rule.name for rule in fincorp.rules), "nps", "fincorp"}
    words = names - {"sector", "region"}  # words of English, and of HTML
    assert [word for word in words if word.lower() in page.lower()] == []
    sources = [
        ROOT / "Snakefile",
        *ROOT.glob("workflow/**/*.smk"),
        *ROOT.glob("workflow/**/*.py"),
        *ROOT.glob("workflow/**/*.j2"),
    ]
    for path in [*sources, *ROOT.glob("workflow/report/*.rst")]:
        text = path.read_text().lower()
        assert [word for word in words if re.search(rf"\b{word.lower()}\b", text)] == [], path


def test_a_finished_run_runs_nothing_again(smoke):
    """What an edit reruns is in test_reruns.py."""
    assert smoke.planned(*SMOKE) == set()


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
