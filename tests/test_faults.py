"""Full disks, altered results, half-written files: a clear message or a right result, never a wrong number."""

import json
import os
import shutil
import subprocess

import polars as pl
import pytest

import write_manifest
from hidden_rule import verify
from hidden_rule.files import whole, write_text
from hidden_rule.logs import logged
from hidden_rule.tables import write_table


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


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system is not allowed here")
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
