"""Hostile inputs of every kind, in audited processes: none writes outside its place, runs code or reaches a network."""

import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import polars as pl
import pytest

from bad_inputs import the_line
from conftest import ROOT
from hidden_rule.report.publish import publish

PUBLISHED = ROOT / "results" / "published"
TABLES = ("metrics.parquet", "comparisons.parquet", "costs.parquet", "provenance.json")


class Payload:
    """What a pickle calls when it is loaded."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


class Stage:
    """A folder with `work`, where calls are made, and `outside`, where nothing may change; a host that listens."""

    def __init__(self, folder: Path):
        self.folder, self.work, self.outside = folder, folder / "work", folder / "outside"
        self.calls: list[dict] = []
        for path in (self.work, self.outside, folder / "home", folder / "temporary"):
            path.mkdir()
        (self.outside / "secret").write_text("root:x:0:0")
        self.mark = self.outside / "code_was_run"
        self.visits = 0
        self.host = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.host.getsockname()[1]}/secret.csv"
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while True:
            connection, _ = self.host.accept()
            self.visits += 1
            connection.close()

    def call(self, name: str, call: str, *arguments) -> None:
        self.calls.append({"name": name, "call": f"hidden_rule.{call}", "arguments": [*arguments]})

    def write(self, name: str, text: str | bytes) -> str:
        """A file below `work`; returns its name."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        return name

    def run(self) -> dict:
        """What came of the calls, by name."""
        (self.folder / "calls.json").write_text(json.dumps(self.calls))
        before = sorted(os.fspath(path) for path in self.outside.rglob("*"))
        offline = ("HF_", "TRANSFORMERS")  # the user's own settings, which may ask for no network: here they do not
        environment = {name: value for name, value in os.environ.items() if not name.startswith(offline)}
        environment |= {"HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "temporary"), "CC": "none"}
        done = subprocess.run(
            [sys.executable, ROOT / "tests" / "audited.py", self.folder],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        assert sorted(os.fspath(path) for path in self.outside.rglob("*")) == before
        assert self.visits == 0
        return json.loads((self.folder / "found.json").read_text())

    def places(self, found: dict) -> list[str]:
        """What was written, but for temporary files and caches of this process's own home."""
        own = (f"{self.folder}/temporary/", f"{self.folder}/home/", "/dev/", "/proc/")
        return [path for path in found.get("writes", []) if not path.startswith(own) and "__pycache__" not in path]


def assert_harmless(stage: Stage, name: str, found: dict, allowed: str = "") -> None:
    """One line or a result, and nothing done but files below `work/{allowed}`; without it none."""
    assert "traceback" not in found, f"{name}: {found['traceback']}"
    assert not {"connects", "starts", "loads"} & found.keys(), (name, found)
    place = f"{stage.work}/{allowed}" if allowed else "nowhere"
    assert not [path for path in stage.places(found) if not path.startswith(place)], (name, found)
    line = found.get("line", "")
    assert "\n" not in line and len(line) < 700 and line.isprintable() and "root:x" not in json.dumps(found), (
        name,
        line,
    )


def check(stage: Stage, expected: dict[str, str | None], allowed: dict[str, str] | None = None) -> None:
    """Run the calls; expected: by name a part of the line, or None for those that end well."""
    found = stage.run()
    assert found.keys() == expected.keys()
    for name, words in expected.items():
        assert_harmless(stage, name, found[name], (allowed or {}).get(name, ""))
        assert ("line" in found[name]) == (words is not None), (name, found[name])
        assert (words or "") in found[name].get("line", ""), (name, found[name])


# --- configs and rulesets ---------------------------------------------------------------------------------------------


def overlays(stage: Stage) -> dict[str, tuple[str, str]]:
    """Overlays by what they try: text, and part of the line."""
    bomb = "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    return {
        "an experiment elsewhere": ("experiment: ../../outside/x\n", "experiment: '../../outside/x' is not valid"),
        "one at the root": (f"experiment: {stage.outside}/x\n", "is not valid"),
        "one of points": ("experiment: '..'\n", "is not valid"),
        "a condition elsewhere": ("conditions: {../../../outside/x: {method: sft}}\n", "is not a valid name"),
        "a tag that calls": (f"x: !!python/object/apply:os.system ['touch {stage.mark}']\n", "tag"),
        "a tag that makes": ("x: !!python/name:os.system\n", "tag"),
        "aliases without end": (f"a: &a [x, x]\n{bomb}", "values once its aliases are written out"),
        "an endless device": ("ruleset: /dev/zero\n", "is a pipe or a device"),
        "a secret as ruleset": (f"ruleset: {stage.outside}/secret\n", "secret"),
        "a reward elsewhere": ("grpo: {reward: {file: /dev/zero}}\n", "/dev/zero"),
        "cases without end": ("data: {source: file, path: /dev/zero, label: a}\n", "is no file"),
        "a model that is none": (f"model: {{source: path, id: '{stage.outside}', revision: ''}}\n", "config.json"),
    }


def predicates(stage: Stage) -> dict[str, tuple[str, str]]:
    secret = stage.outside / "secret"
    return {
        "reads a file": (f"nps > (SELECT MAX(x) FROM read_csv('{secret}'))", "read_csv may read a file"),
        "asks a host": (f"nps > (SELECT MAX(x) FROM read_csv('{stage.url}'))", "read_csv may read a file"),
        "asks in quotes": (f"nps > (SELECT 1 FROM \"read_parquet\"('{stage.url}'))", "read_parquet may read a file"),
        "asks within a list": (f"nps IN (SELECT x FROM read_ndjson('{stage.url}'))", "read_ndjson may read a file"),
        "writes a file": (f"nps > 5; COPY x TO '{stage.outside}/x'", "is not a valid SQL predicate"),
    }


def test_configs_and_rulesets(tmp_path):
    stage = Stage(tmp_path)
    shutil.copy(ROOT / "config.yaml", stage.work)
    shutil.copytree(ROOT / "rulesets", stage.work / "rulesets")
    expected: dict[str, str | None] = {}
    for number, (name, (text, words)) in enumerate(overlays(stage).items()):
        stage.call(name, "experiment.config:read_experiment", ["config.yaml", stage.write(f"{number}.yaml", text)])
        expected[name] = words
    fincorp = (ROOT / "rulesets" / "fincorp.yaml").read_text(encoding="utf-8")
    for number, (name, (when, words)) in enumerate(predicates(stage).items()):
        assert 'when: "nps >= 80"' in fincorp
        text = fincorp.replace('when: "nps >= 80"', f"when: {json.dumps(when)}")
        stage.call(name, "task.ruleset:load_ruleset", stage.write(f"rules{number}.yaml", text))
        expected[name] = words
    made = {"features": [], "observed_labels": ["A", "B"], "default": "B", "rules": [
        {"name": "r", "label": "A", "when": f"x > (SELECT 1 FROM read_csv('{stage.url}'))"}]}  # fmt: skip
    stage.call("a made ruleset", "task.ruleset:load_ruleset", stage.write("made.yaml", json.dumps(made)))
    expected["a made ruleset"] = "was altered (read_csv may read a file"
    for name in ("../x", "/x", "x/y", ".", "-rf", "published"):
        stage.call(f"new: {name}", "experiment.new:new_experiment", name)
        expected[f"new: {name}"] = "NAME"
    check(stage, expected)


# --- files of cases ---------------------------------------------------------------------------------------------------

CELLS = ["=cmd|' /C calc'!A0", "<script>alert(1)</script>", "\u202egnp.exe", "{{ 7 * 7 }}", "$(touch x)", "\x1b[31m"]


def test_files_of_cases(tmp_path):
    stage = Stage(tmp_path)
    rows = "".join(f'{i},"{CELLS[i % len(CELLS)]}",{["=1+1", "@SUM(1)"][i % 2]}\n' for i in range(60))
    stage.write("formulas.csv", f"id,text,decision\n{rows}")
    stage.write("archive.csv", b"PK\x03\x04" + bytes(100))
    stage.write("packed.csv", b"\x1f\x8b" + bytes(100))
    stage.write("nested.json", "[" * 200_000)
    stage.write("one_cell.csv", 'a,decision\n"' + "x" * 2_000_000)
    stage.write("names.csv", "a\u202eb,decision\n1,x\n2,y\n")
    stage.write("fake.parquet", b"PAR1" + bytes(50) + b"PAR1")
    pl.DataFrame({"a": [0], "decision": ["x"]}).select(pl.all().repeat_by(1_000_000).explode()).write_parquet(
        stage.work / "packed.parquet"
    )  # a million rows in some kilobytes
    (stage.work / "loop.csv").symlink_to("loop.csv")
    (stage.work / "device.csv").symlink_to("/dev/zero")
    os.mkfifo(stage.work / "pipe.csv")
    expected = {
        "formulas.csv": None,
        "archive.csv": "is a zip archive or a spreadsheet",
        "packed.csv": "is compressed",
        "nested.json": "is not JSON",
        "one_cell.csv": "a quote is opened and never closed",
        "names.csv": "holds a control character",
        "fake.parquet": "is not a readable parquet file",
        "packed.parquet": "has one label, 'x', in all 1,000,000 rows",
        "loop.csv": "cannot be read",
        "device.csv": "is no file",
        "pipe.csv": "is no file",
    }
    for name in expected:
        stage.call(name, "task.cases.inspect:inspect", name, "decision")
    check(stage, expected)


# --- results of somebody else's ---------------------------------------------------------------------------------------


def foreign(stage: Stage, name: str, change) -> str:
    """Published results as a folder below `work`, whose record is changed; returns its name."""
    folder = stage.work / "results" / name
    folder.mkdir(parents=True)
    for table in TABLES:
        shutil.copy(PUBLISHED / table, folder)
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    change(record, folder)
    (folder / "provenance.json").write_text(json.dumps(record), encoding="utf-8")
    return f"results/{name}"


def records(stage: Stage) -> dict[str, tuple]:
    """Changes of a record by what they try, and part of the line or None."""
    ruleset = stage.work / "ruleset.yaml"
    fincorp = (ROOT / "rulesets" / "fincorp.yaml").read_text(encoding="utf-8")
    when = json.dumps(f"nps > (SELECT MAX(x) FROM read_csv('{stage.url}'))")
    ruleset.write_text(fincorp.replace('when: "nps >= 80"', f"when: {when}"), encoding="utf-8")

    def config(**changes):
        return lambda record, folder: record["config"].update(changes)

    def told(record, folder):
        record["created"], record["config"]["experiment"] = "<img src=x onerror=alert(1)>", "</title><script>"
        record["packages"]["</td><script>alert(1)</script>"] = "1"

    return {
        "conditions elsewhere": (config(conditions={"../../outside/x": {}}), "is not a valid name"),
        "seeds of paths": (config(seeds=["../../x"]), "config.seeds[0]: must be a whole number"),
        "a ruleset that asks a host": (config(ruleset=str(ruleset)), "read_csv may read a file"),
        "a secret as ruleset": (config(ruleset=str(stage.outside / "secret")), "secret"),
        "no conditions": (config(conditions={}), "config.conditions: is empty"),
        "a method that is none": (config(conditions={"a": {"method": "__class__"}}), "config.conditions: is damaged"),
        "a start that is none": (config(conditions={"a": {"method": "sft", "start_from": ["x"]}}), "start_from"),
        "another record": (lambda record, folder: record.update(git=[], packages=3), "must be a mapping"),
        "scripts in texts": (told, None),
    }


def test_results_of_somebody_else(tmp_path):
    stage = Stage(tmp_path)
    expected: dict[str, str | None] = {}
    beside = foreign(stage, "beside", lambda record, folder: None)
    for number, (name, (change, words)) in enumerate(records(stage).items()):
        folder = foreign(stage, f"r{number}", change)
        stage.call(name, "report.compare.page:compare_folders", folder, beside, f"pages/{number}.html")
        expected[name] = words
        if number < 2:
            stage.call(f"paper: {name}", "report.paper.build:write_paper", folder, f"pages/{number}.zip")
            expected[f"paper: {name}"] = words
    for number, name in enumerate(["../../outside/secret", "/etc/hostname", "a/../../../outside/secret", "\x1b[2J"]):
        text = json.dumps({name: {"bytes": 1, "sha256": "0"}})
        folder = Path(stage.write(f"results/m{number}/manifest.json", text)).parent
        stage.call(f"verify: {name}", "core.manifest:faults", str(folder))
        stage.call(f"prune: {name}", "experiment.prune:prune", folder.name)
        expected |= dict.fromkeys((f"verify: {name}", f"prune: {name}"), "which is no file of the folder")
    check(stage, expected, {"scripts in texts": "pages"})
    page = next((stage.work / "pages").glob("*.html")).read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<img src=x" not in page and "&lt;img src=x" in page


@pytest.mark.parametrize("name", ["metrics.parquet", "provenance.json", "charts", "charts/accuracy.svg"])
def test_no_link_in_results_is_published(tmp_path, name):
    results, published = tmp_path / "results" / "mine", tmp_path / "results" / "published" / "mine"
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("![](results/published/mine/charts/accuracy.svg)", encoding="utf-8")
    shutil.copytree(PUBLISHED, results, ignore=shutil.ignore_patterns("gpu*", "rl-fair", "seeds", "label-*"))
    secret = tmp_path / "secret"
    (results / name).rename(secret)
    (results / name).symlink_to(secret)
    assert f"{name}: is a link; publish a run as it was written" in the_line(publish, results, tmp_path)
    assert not published.exists()


# --- folders of models ------------------------------------------------------------------------------------------------


def model_folders(stage: Stage) -> dict[str, str | None]:
    """Copies of a tiny model's folder below `work/models`, each with something that is no model's; part of the line."""
    import torch

    from byte_models import byte_manifest
    from hidden_rule.models.adapters import AdapterBase, add_adapter, save_adapter
    from hidden_rule.models.network import load_network

    origin = byte_manifest(stage.work / "origin").parent / "model"
    code = f"import os\nos.system('touch {stage.mark}')\nclass EvilModel: pass\nclass EvilTokenizer: pass\n"

    def made(name: str, config: dict | None = None, tokenizer: dict | None = None) -> Path:
        folder = shutil.copytree(origin, stage.work / "models" / name)
        for file, changes in (("config.json", config), ("tokenizer_config.json", tokenizer)):
            values = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps(values | (changes or {})))
        return folder

    with open(made("pickles beside") / "pytorch_model.bin", "wb") as file:
        pickle.dump(Payload(stage.mark), file)
    alone = made("pickles alone")
    (alone / "model.safetensors").rename(alone / "x")
    shutil.copy(stage.work / "models" / "pickles beside" / "pytorch_model.bin", alone)
    auto = {"AutoConfig": "evil.EvilConfig", "AutoModelForCausalLM": "evil.EvilModel"}
    (made("code beside", {"auto_map": auto}) / "evil.py").write_text(code)
    (made("code alone", {"auto_map": auto, "model_type": "evil"}) / "evil.py").write_text(code)
    on_hub = {"AutoModelForCausalLM": "someone/else--evil.EvilModel"}
    made("code on the Hub", {"auto_map": on_hub, "model_type": "evil"})
    of_tokenizer = {"auto_map": {"AutoTokenizer": ["evil.EvilTokenizer", None]}, "tokenizer_class": "EvilTokenizer"}
    (made("a tokenizer's code", tokenizer=of_tokenizer) / "evil.py").write_text(code)
    made("a kernel on the Hub", {"attn_implementation": "someone/kernel"})
    made("weights elsewhere", {"transformers_weights": "../../outside/secret"})
    made("files elsewhere", tokenizer={"vocab_file": f"{stage.outside}/secret", "merges_file": "/etc/hostname"})
    (made("a link") / "additional_chat_templates").mkdir()
    (stage.work / "models/a link/additional_chat_templates/x.jinja").symlink_to(stage.outside / "secret")
    template = "{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages }}"
    (made("a template that looks around") / "chat_template.jinja").write_text(template)
    network, _ = load_network(origin, "float32", torch.device("cpu"))
    lora = {"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj"]}
    save_adapter(add_adapter(network, lora), stage.work / "adapter", AdapterBase("origin"))
    return {
        "pickles beside": None,
        "pickles alone": "has no safetensors weights",
        "code beside": None,
        "code alone": "code of its own (auto_map)",
        "code on the Hub": "code of its own (auto_map)",
        "a tokenizer's code": "",
        "a kernel on the Hub": "names someone/kernel",
        "weights elsewhere": "cannot be loaded",
        "files elsewhere": "",
        "a link": "outside the model's folder",
        "a template that looks around": "unsafe",
    }


@pytest.mark.slow
def test_folders_of_models_and_adapters(tmp_path):
    stage = Stage(tmp_path)
    expected = model_folders(stage)
    for name in expected:
        stage.call(name, "models.inspection:main", [f"models/{name}", "--targets", "q_proj"])
    config = json.loads((stage.work / "adapter" / "adapter_config.json").read_text())
    stage.write("evil_adapter.py", f"import os\nos.system('touch {stage.mark}')\n")
    for number, changes in enumerate(
        [
            {"megatron_config": {"a": 1}, "megatron_core": "evil_adapter"},
            {"auto_mapping": {"parent_library": "evil_adapter", "base_model_class": "X"}},
            {"peft_type": "XLORA", "adapters": {"a": "someone/else"}},
        ]
    ):
        folder = shutil.copytree(stage.work / "adapter", stage.work / f"adapter{number}")
        (folder / "adapter_config.json").write_text(json.dumps(config | changes))
        stage.call(f"adapter {number}", "models.merging:write_merged", "origin/model", folder.name, "float32", "merged")
        expected[f"adapter {number}"] = "take an adapter that this pipeline trained"
    found = stage.run()
    for name, words in expected.items():
        assert_harmless(stage, name, found[name])
        if words != "":  # either: what a library makes of it is its own affair, as long as it is harmless
            assert ("line" in found[name]) == (words is not None), (name, found[name])
        assert (words or "") in found[name].get("line", ""), (name, found[name])
