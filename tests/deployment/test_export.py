"""`make export`: what is refused, what is written, and that artifacts loaded by plain libraries decide as evaluated."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

from conftest import ROOT
from hidden_rule.core.errors import UserError
from hidden_rule.core.files import file_entry, file_sha256
from hidden_rule.deployment import artifacts, chosen, folders, parity, plain_scores
from hidden_rule.deployment.artifacts import Wanted, export_run
from hidden_rule.deployment.card import escaped
from hidden_rule.deployment.export import number_of, switched_on
from hidden_rule.deployment.exported import read_export
from hidden_rule.evaluation.evaluate import evaluate
from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput
from hidden_rule.models.adapters import add_adapter, save_adapter
from hidden_rule.models.base import BaseModel
from hidden_rule.models.loading import load_model
from hidden_rule.models.trie import LabelTrie
from hidden_rule.task.dataset import dataset_schema, draw_splits
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import load_ruleset
from synthetic import write_results
from tiny_models import SIZES

FINCORP = ROOT / "rulesets/fincorp.yaml"
N = 12  # cases
WORLD = {
    "baseline": {"method": None, "accuracy": 0.3},
    "sft": {"method": "sft", "accuracy": 0.9},
    "sft_then_grpo": {"method": "grpo", "accuracy": 0.9, "start_from": "sft"},
}
ARTIFACTS_ONLY = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("hidden_rule", "trl", "snakemake", "polars", "datasets"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refused())
"""


def run_snippet(folder: Path, card: Path) -> str:
    """What the card's lines print, in a process that finds neither our package nor what else it needs."""
    (code,) = re.findall(r"^`{3,}python\n(.*?)\n`{3,}$", card.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(code.splitlines()) <= 7
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-I", "-c", ARTIFACTS_ONLY + code],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


# --- text of others on the card, and what a user writes ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("MANUAL_REVIEW", r"MANUAL\_REVIEW"),
        ("![x](http://evil/a.png)", r"\!\[x\](http&#58;//evil/a.png)"),
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a | b\n# c", r"a \| b \# c"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("see www.evil.example", "see www&#46;evil.example"),
        ("back\\slash `code`", r"back\\slash \`code\`"),
        ("94.6% (93.0–95.8)", "94.6% (93.0–95.8)"),
        ("--- x", r"\--- x"),
        ("-1.5", "-1.5"),
    ],
)
def test_text_means_nothing_in_markdown(text, shown):
    assert escaped(text) == shown


@pytest.mark.parametrize(("text", "n"), [("", None), (" 160 ", 160), ("1", 1)])
def test_cases_are_a_number_or_all(text, n):
    assert number_of(text) == n


@pytest.mark.parametrize("text", ["0", "-3", "many", "1.5"])
def test_other_numbers_of_cases_are_refused(text):
    with pytest.raises(UserError, match="CASES: .* is no number of cases"):
        number_of(text)


def test_switches_are_yes_or_no():
    assert [switched_on("HIDDEN", text) for text in ("", "no", "Yes")] == [False, False, True]
    with pytest.raises(UserError, match="HIDDEN: true is neither yes nor no; give HIDDEN=yes"):
        switched_on("HIDDEN", "true")


# --- parity by hand ---------------------------------------------------------------------------------------------------


def questions(expected, dtype="bfloat16") -> parity.Questions:
    expected = np.array(expected)
    ids, tokens = list(range(10, 10 + len(expected))), [[1, 2]] * len(expected)
    return parity.Questions(ids, [], tokens, ("A", "B"), [[1], [2]], expected, dtype, 8)


def answered(probabilities, tokens=None) -> parity.Answered:
    found = np.array(probabilities)
    return parity.Answered(found, tokens or [[1, 2]] * len(found), {"torch": "0"}, "cpu", 1.0)


CLEAR, TIE = [0.9, 0.1], [0.55, 0.45]


@pytest.mark.parametrize(
    ("found", "dtypes", "holds", "said"),
    [
        ([CLEAR, TIE], ("float32", "float32"), True, None),
        ([[0.9005, 0.0995], TIE], ("float32", "float32"), True, None),
        ([[0.91, 0.09], TIE], ("float32", "float32"), False, r"differ by up to 0.01 \(bound 0.002\)$"),
        ([[0.91, 0.09], TIE], ("bfloat16", "float32"), True, None),  # the coarser counts
        ([[0.91, 0.09], TIE], ("float32", "bfloat16"), True, None),
        ([CLEAR, [0.45, 0.55]], ("bfloat16", "bfloat16"), True, None),  # another label in a near-tie
        ([CLEAR, [0.2, 0.8]], ("bfloat16", "bfloat16"), False, r"up to 0.35 \(bound 0.2\)$"),
        ([[0.1, 0.9], TIE], ("bfloat16", "bfloat16"), False, "another label in 1 of 2 cases, as application_id 10 "),
        ([[float("nan"), 0.1], TIE], ("bfloat16", "bfloat16"), False, "nan"),
    ],
)
def test_parity_holds_within_bounds_and_near_ties(found, dtypes, holds, said):
    check = parity.compare("merged", dtypes[0], questions([CLEAR, TIE], dtypes[1]), answered(found))
    assert check.holds == holds
    fault = parity.fault_of(check)
    assert fault is None if said is None else re.search(said, fault)
    if found[1] == [0.45, 0.55]:
        listed = {"application_id": 11, "evaluated": "A", "answered": "B", "margin": 0.1}
        assert check.other_labels == [listed] and check.n_near_ties == 1


def test_other_prompts_are_no_parity():
    check = parity.compare("adapter", "float32", questions([CLEAR]), answered([CLEAR], [[1, 3]]))
    assert not check.holds and "its tokenizer makes other prompts" in parity.fault_of(check)


@pytest.mark.parametrize("family", ["llama", "gemma"])  # a cache of what prompts share, and windows, where none is
def test_plain_scores_are_products_of_constrained_softmaxes(family):
    torch.manual_seed(0)
    sizes = SIZES | {"attn_implementation": "eager"}
    if family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
    else:
        model = Gemma3ForCausalLM(Gemma3TextConfig(**sizes, sliding_window=4, sliding_window_pattern=2)).eval()
    assert plain_scores.has_state(model.config) == (family == "gemma")
    replies = [[5, 6, 7, 2], [5, 8, 9, 2], [5, 8, 10, 11, 2]]
    prompts = [[3, 4, 9, 20, 21], [3, 4, 9, 22], [3, 4, 9, 20, 23]]
    found = plain_scores.probabilities(model, prompts, replies, batch_size=2)
    with torch.no_grad():
        for row, prompt in zip(found, prompts, strict=True):
            first = model(torch.tensor([[*prompt, 5]])).logits[0, -1, [6, 8]].softmax(0)
            second = model(torch.tensor([[*prompt, 5, 8]])).logits[0, -1, [9, 10]].softmax(0)
            expected = torch.stack([first[0], first[1] * second[0], first[1] * second[1]])
            torch.testing.assert_close(row.float(), expected, atol=1e-5, rtol=1e-4)
    assert set(plain_scores.nexts_of(replies)) == {branch.path for branch in LabelTrie(replies).branches}


# --- folders ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [True, False])
def test_a_folder_takes_the_place_of_another(tmp_path, monkeypatch, atomic):
    if not atomic:
        monkeypatch.setattr(folders, "exchange", lambda one, other: False)
    new, place = tmp_path / "new", tmp_path / "place"
    for folder, text in ((new, "new"), (place, "old")):
        folder.mkdir()
        (folder / "file").write_text(text)
    (place / "gone").write_text("old")
    (new / "file").chmod(0o600)
    folders.put_in_place(new, place)
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert [path.name for path in place.iterdir()] == ["file"] and (place / "file").read_text() == "new"
    assert (place / "file").stat().st_mode & 0o044 == 0o044  # a server of another user's can read it


def test_a_full_disk_is_said_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"a/b: .* GB are needed and .* GB are free; free space"):
        folders.check_room(tmp_path / "a/b", 10**18)
    folders.check_room(tmp_path / "a/b", 1000)


@pytest.mark.parametrize(
    ("results", "there", "expected"),
    [
        ("own/results/run", ["own", "here"], "own/results/models/m"),  # not that of another project, where one stands
        ("moved/run", ["moved", "here"], "moved/models/m"),
        ("moved/run", ["here"], "here/results/models/m"),
    ],
)
def test_the_base_is_that_of_the_runs_own_results(tmp_path, monkeypatch, results, there, expected):
    for name in there:
        folder = tmp_path / name / ("models/m" if name == "moved" else "results/models/m")
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
    (tmp_path / "here").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "here")
    manifest = {"source": "package", "id": "m", "folder": "results/models/m", "files": {"config.json": {"bytes": 2}}}
    found = chosen.base_folder(manifest, tmp_path / results)
    assert found.resolve() == tmp_path / expected


def test_base_files_are_copied_as_recorded_and_nowhere_else(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "config.json").write_text("{}")
    (source / "LICENSE").write_text("mine")
    entry = file_entry(source / "config.json")
    folders.copy_files(source, tmp_path / "copy", {"config.json": entry})
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["LICENSE", "config.json"]
    with pytest.raises(UserError, match="outside the folder"):
        folders.copy_files(source, tmp_path / "copy", {"../source/config.json": entry})
    with pytest.raises(UserError, match=r"source/config.json: was changed since the run"):
        folders.copy_files(source, tmp_path / "copy", {"config.json": {**entry, "sha256": "0" * 64}})


# --- a finished run of a tiny model -----------------------------------------------------------------------------------


def seal_run(folder: Path) -> None:
    """Write the manifest of a results folder."""
    (folder / "manifest.json").unlink(missing_ok=True)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "export" not in path.parts)
    entries = {path.relative_to(folder).as_posix(): file_entry(path) for path in files}
    (folder / "manifest.json").write_text(json.dumps(entries))


@pytest.fixture(scope="module")
def finished(tiny_manifest, tmp_path_factory) -> Path:
    """The folder of a finished run: a tiny model in float32, evaluated by our own code, in a world that is made up."""
    folder, ruleset = tmp_path_factory.mktemp("project") / "results" / "tiny", load_ruleset(FINCORP)
    folder.mkdir(parents=True)
    config = {"ruleset": "rulesets/fincorp.yaml", "experiment": "tiny"}
    config |= {"model": {"id": "tiny", "source": "path", "revision": "", "chat_template_kwargs": {}}}
    config |= {"evaluation": {"batch_size": 8, "max_new_tokens": 16, "structured": ["holdout"], "free": []}}
    results = write_results(folder, ruleset, WORLD, seeds=(0, 1), config=config)
    (folder / "data").mkdir()
    splits = draw_splits(ruleset, {"train": 4, "validation": 4, "test": 4, "holdout": N}, seed=0)
    for name, frame in splits.items():
        frame.cast(dict(dataset_schema(ruleset))).write_parquet(folder / f"data/{name}.parquet")
    network = load_model(tiny_manifest, "float32", torch.device("cpu"), stock=True)
    model = add_adapter(network, {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj"]}, True)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.3)
    first, *others = results.trained
    layout = results.layout
    save_adapter(model, layout.adapter(first), "./somewhere/else")
    evaluate(
        EvaluationJob(
            condition=first.condition,
            seed=first.seed,
            base=BaseModel(tiny_manifest, "float32"),
            adapter=layout.adapter(first),
            ruleset=FINCORP,
            splits={"holdout": folder / "data/holdout.parquet"},
            settings=results.config["evaluation"],
            output=EvaluationOutput(layout.predictions(first), folder / "unused.cost.parquet"),
        )
    )
    for run in others:  # the same adapter under other names
        shutil.copytree(layout.adapter(first), layout.adapter(run))
        shutil.copyfile(layout.predictions(first), layout.predictions(run))
    manifest = json.loads(tiny_manifest.read_text())
    manifest["inspection"] = {"facts": {"dtype": "float32"}}
    (folder / "model.json").write_text(json.dumps(manifest))
    data = {name: {"sha256": "0" * 64, "rows": len(frame)} for name, frame in splits.items()}
    record = {"config": results.config, "git": {"commit": "c0ffee ![x](http://evil/)"}, "data": data}
    record["ruleset"] = {"path": "rulesets/fincorp.yaml", "sha256": file_sha256(FINCORP)}
    (folder / "provenance.json").write_text(json.dumps(record))
    seal_run(folder)
    return folder


@pytest.fixture(scope="module")
def exported(finished) -> tuple[Path, list[str]]:
    """The export of one of its adapters, and what was said."""
    said: list[str] = []
    return export_run(str(finished), "sft", "0", Wanted(), said.append), said


@pytest.mark.slow
def test_each_artifact_decides_as_was_evaluated(exported, finished):
    folder, said = exported
    assert folder == finished / "export/sft-seed0" and len(said) == 3
    record = json.loads((folder / "parity.json").read_text())
    checks = {(check["artifact"], check["dtype"]): check for check in record["checks"]}
    assert list(checks) == [("adapter", "float32"), ("merged", "float32"), ("merged", "bfloat16")]
    assert record["n"] == N and record["suite"] == "holdout" and all(check["holds"] for check in checks.values())
    assert max(checks[key]["max_difference"] for key in list(checks)[:2]) < 1e-4
    assert checks["merged", "bfloat16"]["max_difference"] > 1e-4  # which rounds
    assert not checks["adapter", "float32"]["n_other_labels"]


@pytest.mark.slow
def test_what_a_server_needs_is_in_the_export(exported, finished):
    folder, _ = exported
    found, ruleset = read_export(folder), load_ruleset(FINCORP)
    assert (found.condition, found.seed, found.method, found.dtype) == ("sft", 0, "sft", "float32")
    assert found.labels == ruleset.labels and found.replies["REJECT_RISK"] == '{"decision": "REJECT_RISK"}'
    assert found.longest_reply == max(map(len, found.reply_tokens.values())) and found.base["id"] == "model"
    assert found.predictions["sha256"] == file_sha256(finished / found.predictions["file"])
    cases = pl.read_parquet(finished / "data/holdout.parquet")
    told = load_ruleset(found.ruleset)
    assert render_prompts(told, cases) == render_prompts(ruleset, cases) and not told.hidden_rules
    written = [path for path in folder.rglob("*") if path.suffix in (".json", ".yaml", ".md")]
    secrets = [word for path in written for word in ("vip_override", "IN ('Ex-Google'") if word in path.read_text()]
    assert not secrets  # no hidden rule in any file
    network = load_model(found.manifest, found.dtype, torch.device("cpu"))
    assert network.name_or_path == str(found.manifest.parent / "base")
    assert json.loads((found.adapter / "adapter_config.json").read_text())["base_model_name_or_path"] == "./base"
    assert not list(folder.rglob(".*"))


@pytest.mark.slow
def test_an_altered_export_is_named(exported, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported[0], folder)
    assert read_export(folder).name.endswith("/sft-seed0")
    (folder / "ruleset.yaml").write_text("labels: []")
    with pytest.raises(UserError, match=r"copy/ruleset.yaml: was altered since it was exported; run make export again"):
        read_export(folder)
    record = json.loads((folder / "export.json").read_text())
    record["files"] = {"../outside": record["files"]["ruleset.yaml"]}
    (folder / "export.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"names \.\./outside, outside the folder"):
        read_export(folder)
    (folder / "export.json").write_text(json.dumps({"format": 1, "labels": []}))
    with pytest.raises(UserError, match=r"export.json: is damaged"):
        read_export(folder)
    with pytest.raises(UserError, match=r"nothing: does not exist; name a folder that make export wrote"):
        read_export(tmp_path / "nothing")


@pytest.mark.slow
def test_the_card_has_the_runs_numbers_and_its_lines_run(exported):
    folder, _ = exported
    card = (folder / "adapter/README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "peft" and not front.keys() & {"license", "base_model"}
    assert r"c0ffee \!\[x\](http&#58;//evil/)" in card and "](http:" not in card
    assert re.search(r"\| accuracy \| 9\d\.\d% \(\d", card) and "all 2 seeds of the condition" in card
    assert "1 rule of the policy is hidden" in card and "state no licence" in card
    assert "| adapter/ in float32 | torch " in card and f"{N} of {N}" in card
    assert "## Limits\n\n- 95% confidence intervals" in card
    merged = (folder / "merged/README.md").read_text()
    assert yaml.safe_load(merged.split("---")[1])["library_name"] == "transformers"
    assert run_snippet(folder, folder / "adapter/README.md") == run_snippet(folder, folder / "merged/README.md")


@pytest.mark.slow
def test_where_parity_fails_nothing_is_left_and_the_older_export_stays(exported, finished, monkeypatch):
    folder, _ = exported
    before = file_sha256(folder / "export.json")
    monkeypatch.setattr(parity, "BOUNDS", {"float32": 1e-12, "bfloat16": 1e-12})
    with pytest.raises(UserError, match=r"adapter: loaded afresh and computed in float32, it does not decide as was"):
        export_run(str(finished), "sft", "0", Wanted(cases=4), print)
    assert [path.name for path in folder.parent.iterdir()] == ["sft-seed0"]
    assert file_sha256(folder / "export.json") == before


@pytest.mark.slow
def test_an_artifact_that_cannot_be_loaded_is_named(finished, monkeypatch):
    monkeypatch.setattr(artifacts, "adapter_files", lambda chosen, folder, tokenizer: folder.mkdir())
    with pytest.raises(UserError, match=r"adapter: cannot be loaded and asked by plain libraries \("):
        export_run(str(finished), "sft", "1", Wanted(cases=4), print)
    assert not (finished / "export/sft-seed1").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("condition", "seed", "said"),
    [
        ("", "0", "CONDITION: names no condition; name one of sft and sft_then_grpo"),
        ("sfft", "0", "CONDITION: sfft is no condition of .*; name one of sft and sft_then_grpo"),
        ("baseline", "0", "CONDITION: baseline is not trained and has no adapter; name one of sft and"),
        ("sft", "7", "SEED: 7 is no seed of .*tiny; name one of 0 and 1"),
        ("sft", "", "SEED: names no seed; name one of 0 and 1"),
        ("sft", "0x0", "SEED: 0x0 is no seed"),
        ("../../sft", "0", r"CONDITION: \.\./\.\./sft is no condition"),
    ],
)
def test_runs_that_are_not_there_are_refused(finished, condition, seed, said):
    with pytest.raises(UserError, match=said):
        chosen.choose(str(finished), condition, seed)


@pytest.mark.slow
def test_modified_and_unfinished_runs_are_refused(finished, tmp_path):
    folder = tmp_path / "results/tiny"
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("export"))
    assert chosen.choose(str(folder), "sft_then_grpo", " 1 ").start_from == "sft"
    with open(folder / "predictions/sft/seed0.parquet", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"predictions/sft/seed0.parquet: has [\d,]+ bytes, not .*evaluated"):
        chosen.choose(str(folder), "sft", "0")
    seal_run(folder)
    base = Path(json.loads((folder / "model.json").read_text())["id"])
    record = json.loads((folder / "model.json").read_text())
    record["files"]["config.json"]["bytes"] += 1
    (folder / "model.json").write_text(json.dumps(record))
    seal_run(folder)
    with pytest.raises(UserError, match=re.escape(f"{base}/config.json: is missing or was changed since the run")):
        chosen.choose(str(folder), "sft", "0")
    provenance = json.loads((folder / "provenance.json").read_text())
    provenance["ruleset"]["sha256"] = "0" * 64
    (folder / "provenance.json").write_text(json.dumps(provenance))
    seal_run(folder)
    with pytest.raises(UserError, match=r"fincorp.yaml: was changed since the run; restore it"):
        chosen.choose(str(folder), "sft", "0")
    (folder / "adapters/sft/seed0/adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"adapter_model.safetensors: is missing; run the experiment again"):
        chosen.choose(str(folder), "sft", "0")
    (folder / "metrics.parquet").unlink()
    with pytest.raises(UserError, match="holds a run that is not finished: it has no metrics.parquet"):
        chosen.choose(str(folder), "sft", "0")


@pytest.mark.slow
def test_a_folder_that_is_no_export_is_left_alone(finished):
    place = finished / "export/sft_then_grpo-seed0"
    place.mkdir(parents=True)
    (place / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="sft_then_grpo-seed0: is there and no export; move it elsewhere"):
        export_run(str(finished), "sft_then_grpo", "0", Wanted(), print)
    assert (place / "mine.txt").read_text() == "mine"
    shutil.rmtree(place)


def test_a_smoke_runs_adapter_is_exported_and_its_card_runs(smoke, tmp_path):
    run = tmp_path / "results/smoke"
    shutil.copytree(smoke.folder / "results/smoke", run)
    (tmp_path / "results/models").symlink_to(smoke.folder / "results/models")
    folder = export_run(str(run), "sft_then_grpo", "0", Wanted(hidden=True), print)
    record = json.loads((folder / "parity.json").read_text())
    assert next(check["dtype"] for check in record["checks"]) == record["evaluated_in"]
    assert all(check["holds"] and check["same_prompts"] for check in record["checks"]) and record["n"] == 40
    card = (folder / "adapter/README.md").read_text()
    assert "vip\\_override" in card and "Smoke test: numbers mean nothing" in card and "Apache-2.0" in card
    assert "| starts from | the adapter of sft |" in card
    free = pl.read_parquet(run / "predictions/sft_then_grpo/seed0.parquet").filter(suite="test", decoding="free")
    printed = run_snippet(folder, folder / "adapter/README.md")
    assert printed[:10] == free["reply"][0].strip()[:10]  # later tokens may be near-ties in bfloat16
