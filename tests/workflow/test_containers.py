"""The recipes of containers set up what `make setup` sets up, from files that exist, and agree with each other."""

import re
import shutil
import subprocess

import pytest

from conftest import ROOT

OCI = (ROOT / "containers/Dockerfile").read_text(encoding="utf-8")
APPTAINER = (ROOT / "containers/hidden-rule.def").read_text(encoding="utf-8")
IGNORE = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def instructions(text):
    """A Dockerfile's instructions, in order: name and words, continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line]


def sections(text):
    """The lines of each section of an Apptainer recipe, by its name; of its header under an empty one."""
    found, name = {"": []}, ""
    for line in re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).splitlines():
        if line.startswith("%"):
            name = line[1:]
            found[name] = []
        elif line.strip():
            found[name].append(line.strip())
    return found


def oci_copies():
    """What the Dockerfile copies: path in the repository, path below /hidden-rule."""
    copied = {}
    for words in (words.split() for name, words in instructions(OCI) if name == "COPY"):
        *sources, target = words
        copied |= {source: source if target == "./" else target for source in sources}
    return copied


def apptainer_copies():
    pairs = [line.split() for line in sections(APPTAINER)["files"]]
    return {source: target.removeprefix("/hidden-rule/") for source, target in pairs}


def test_both_recipes_take_the_same_steps():
    commands = [part.strip() for name, words in instructions(OCI) if name == "RUN" for part in words.split("&&")]
    steps = [line for line in sections(APPTAINER)["post"] if not re.match(r"set -e|cd |export ", line)]
    assert commands == steps
    assert "make setup VENV=/opt/venv" in commands


def test_both_recipes_start_from_one_image():
    (image,) = [words for name, words in instructions(OCI) if name == "FROM"]
    header = dict(line.split(": ") for line in sections(APPTAINER)[""])
    assert header == {"Bootstrap": "docker", "From": image}
    assert ":" in image and not image.endswith(":latest")


def test_both_recipes_set_one_environment_and_run_one_command():
    path = re.search(r"PATH=(\S+)", OCI)[1]
    assert f"export PATH={path}" in sections(APPTAINER)["environment"]
    assert "export PIP_NO_CACHE_DIR=1" in sections(APPTAINER)["post"] and ("ENV", "PIP_NO_CACHE_DIR=1") in instructions(
        OCI
    )
    (command,) = [words for name, words in instructions(OCI) if name == "CMD"]
    run = "exec " + " ".join(re.findall(r'"([^"]+)"', command))
    assert run in sections(APPTAINER)["runscript"]
    recipe = re.search(r"^results: setup\n\t\$\(BIN\)/(.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    one_job = re.sub(r"gpu=.*", "gpu=1", recipe)  # how many GPUs there will be an image does not know
    assert run == f"exec {one_job}"


@pytest.mark.parametrize("copies", [oci_copies, apptainer_copies])
def test_make_finds_all_that_it_needs_among_what_is_copied(copies, tmp_path):
    for source, target in copies().items():
        if (ROOT / source).is_dir():
            shutil.copytree(
                ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
            )
        else:
            shutil.copy(ROOT / source, tmp_path / target)
    words = ["make", "--dry-run", "setup", f"VENV={tmp_path}/venv"]
    said = subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    for lock in ("-r envs/requirements.txt", "-r envs/model.txt", "--editable ."):
        assert lock in said
    named = re.findall(r'(?:readme = |license-files = \[|file = \[)"([^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert len(named) == 3 and all((tmp_path / name).is_file() for name in named)
    assert (tmp_path / "src/hidden_rule/kernels/native_code/layers.c").is_file()


def test_what_is_copied_is_sent_and_nothing_else():
    kept = {line.removeprefix("!") for line in IGNORE if line.startswith("!")}
    assert "*" in IGNORE and kept == set(oci_copies()) == set(apptainer_copies())


def test_the_lock_is_for_the_image_s_python():
    """Debian 12 has Python 3.11."""
    assert "bookworm" in OCI and "python3 python3-venv" in OCI
    for name in ("requirements.txt", "slurm.txt"):
        assert "with Python 3.11\n" in (ROOT / "envs" / name).read_text(encoding="utf-8")


def test_nothing_is_fetched_but_by_apt_and_the_lock():
    assert not re.search(r"https?://|curl|wget|^ADD ", OCI + APPTAINER, re.MULTILINE)
    assert OCI.count("apt-get install") == OCI.count("--no-install-recommends") == 1
