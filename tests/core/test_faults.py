"""Full disks, altered results, half-written files: a clear message or a right result, never a wrong number."""

import json
import os
import shutil
import subprocess
import time

import polars as pl
import pytest

import write_manifest
from hidden_rule.core import manifest as verify
from hidden_rule.core.errors import UserError
from hidden_rule.core.files import check_times, read_json, scratch_folder, whole, write_text
from hidden_rule.core.logs import logged
from hidden_rule.core.tables import COMPARISONS, COSTS, HISTORY, METRICS, read_table, write_table
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.outcomes import load_outcomes
from hidden_rule.task.dataset import read_split
from hidden_rule.task.ruleset import load_ruleset


def mount(*arguments) -> None:
    """Mount something, or skip the test where that is not allowed."""
    command = ["mount", *map(str, arguments)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting is not allowed here")


def test_what_is_written_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_text("before", path)

    def fail():
        with whole(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    (tmp_path / ".123.a.json").write_text("half")  # of a process that was killed
    (tmp_path / ".123.b.json").write_text("half")  # another file's
    write_text("after", path)
    assert path.read_text() == "after"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".123.b.json", "a.json"]


def test_what_a_killed_process_left_is_deleted(tmp_path):
    (tmp_path / ".a.123.tmp").mkdir()
    (tmp_path / ".b.123.tmp").mkdir()  # another folder's
    with scratch_folder(tmp_path / "a") as scratch:
        scratch.mkdir()
    assert [p.name for p in tmp_path.iterdir()] == [".b.123.tmp"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount("-t", "tmpfs", "-o", "size=256k", "tmpfs", folder)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_leaves_what_was_there(small_disk, tmp_path, capsys):
    schema = pl.Schema({"a": pl.Int64})
    path = small_disk / "a.parquet"
    write_table(pl.DataFrame({"a": [1]}), path, schema)
    numbers = pl.DataFrame({"a": pl.Series([hash((i, 1)) for i in range(200_000)], dtype=pl.Int64)})
    with pytest.raises(SystemExit) as stopped, logged(tmp_path / "log"):
        write_table(numbers, path, schema)
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert "No space left on device" in message and "free some space and run the same command again" in message
    assert "Traceback" not in message and len(message.strip().splitlines()) == 1
    assert pl.read_parquet(path)["a"].to_list() == [1]
    assert os.listdir(small_disk) == ["a.parquet"]


def test_a_log_on_a_full_disk_hides_no_message(small_disk, capsys):
    def fail():
        print(300_000 * "x")
        raise UserError("a.yaml", "b", "is wrong", "mend it")

    with pytest.raises(SystemExit), logged(small_disk / "log"):
        fail()
    assert capsys.readouterr().err == "error: a.yaml: b: is wrong; mend it\n"
    with pytest.raises(SystemExit), logged(small_disk / "new folder" / "log"):
        (small_disk / "more").write_text(300_000 * "x")
    message = capsys.readouterr().err
    assert "No space left on device" in message and len(message.splitlines()) == 1


def test_no_byte_of_a_table_changes_unnoticed(tmp_path):
    frame = pl.DataFrame({"a": pl.Series([hash((i, 1)) % 1000 for i in range(300)], dtype=pl.Int64)})
    path = tmp_path / "a.parquet"
    write_table(frame, path, frame.schema)
    whole_bytes, refused = path.read_bytes(), []
    for i in range(0, len(whole_bytes), 3):
        altered = bytearray(whole_bytes)
        altered[i] ^= 1 << i % 8
        path.write_bytes(altered)
        try:
            assert read_table(path, frame.schema).equals(frame)  # the seal's own mark: no number
        except UserError as error:
            refused.append(str(error))
    assert len(refused) > 0.9 * len(whole_bytes) / 3
    starts = {line.removesuffix("; delete it and run again to rebuild it").split(" (")[0] for line in refused}
    assert starts <= {f"{path}: was altered since it was written", f"{path}: is not a readable parquet file"}


def load_adapter(path):
    from hidden_rule.models.adapters import load_adapter as load  # torch takes its time

    load(None, path.parent, trainable=False)


def load_model(path):
    from hidden_rule.models.hardware import default_device
    from hidden_rule.models.loading import load_model as load

    load(path, "auto", default_device())


def ruleset():
    return load_ruleset("rulesets/fincorp.yaml")


READERS = {  # a file of a finished run, and how the jobs read it
    "smoke/data/test.parquet": lambda path: read_split(path, ruleset()),
    "smoke/data/train.parquet": read_table,
    "smoke/predictions/sft/seed0.parquet": lambda path: list(load_outcomes({Run("sft", 0): path}, ruleset().labels)),
    "smoke/training/sft/seed0/history.parquet": lambda path: read_table(path, HISTORY),
    "smoke/training/sft/seed0/cost.parquet": lambda path: read_table(path, COSTS),
    "smoke/metrics.parquet": lambda path: read_table(path, METRICS),
    "smoke/comparisons.parquet": lambda path: read_table(path, COMPARISONS),
    "smoke/costs.parquet": lambda path: read_table(path, COSTS),
    "smoke/adapters/sft/seed0/adapter_model.safetensors": load_adapter,
    "smoke/adapters/sft/seed0/adapter_config.json": load_adapter,
    "smoke/provenance.json": read_json,
    "models/*/manifest.json": load_model,
}


@pytest.mark.parametrize("how", ["cut", "flipped", "emptied"])
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_one_line_that_names_it(smoke, tmp_path, capsys, name, how):
    if how == "flipped" and name.endswith(".json"):
        pytest.skip("text: `make verify` tells")
    original = next((smoke.folder / "results").glob(name))
    shutil.copytree(original.parent, tmp_path / "copy", ignore=shutil.ignore_patterns("model.safetensors"))
    path = tmp_path / "copy" / original.name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes({"cut": content[: len(content) // 2], "flipped": content, "emptied": b""}[how])
    with pytest.raises(SystemExit), logged(tmp_path / "log"):
        READERS[name](path)
    message = capsys.readouterr().err
    assert message.startswith(f"error: {path}: ") and len(message.splitlines()) == 1
    assert (tmp_path / "log").read_text() == message


def test_a_file_of_the_future_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("a")
    check_times(path, tmp_path / "nowhere")
    os.utime(path, (time.time() + 3600,) * 2)
    with pytest.raises(UserError, match="a.parquet: was written at .* still to come: the clock was set back"):
        check_times(path)


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    for name in ("metrics.parquet", "charts/a.svg", "adapters/sft/adapter_model.safetensors"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    write_manifest.write_manifest([path for path in folder.rglob("*") if path.is_file()], folder / "manifest.json")
    return folder


def test_a_folder_as_it_was_written_verifies_wherever_it_lies(results, tmp_path, capsys):
    assert verify.main(str(results)) == 0
    shutil.move(results, tmp_path / "elsewhere")
    assert verify.main(str(tmp_path / "elsewhere")) == 0
    assert "every file is as it was written" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("metrics.parquet", "metrics.parqueT", "metrics.parquet: was altered"),
        ("charts/a.svg", "more", "charts/a.svg: has 4 bytes, not 12"),
        ("adapters/sft/adapter_model.safetensors", None, "adapters/sft/adapter_model.safetensors: is missing"),
    ],
)
def test_what_was_altered_is_named(results, capsys, name, content, line):
    (results / name).unlink()
    if content is not None:
        (results / name).write_text(content)
    assert verify.main(str(results)) == 1
    assert capsys.readouterr().out.strip() == f"{results}/{line}"


@pytest.mark.parametrize("content", [None, "{", "[1]", json.dumps({"a": 1})])
def test_a_manifest_that_cannot_be_read_is_said(results, capsys, content):
    (results / "manifest.json").unlink()
    if content is not None:
        (results / "manifest.json").write_text(content)
    assert verify.main(str(results)) == 2
    assert capsys.readouterr().err.startswith(f"error: {results}/manifest.json: is ")
