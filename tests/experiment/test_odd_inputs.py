"""Configs that nobody expects: each is accepted with the right value or stops with one line, whatever its length."""

import os
from pathlib import Path

import pytest

from bad_inputs import PARCELS, breakable, the_line  # noqa: F401 - a fixture
from hidden_rule.experiment.config import load_config
from hidden_rule.task.ruleset import load_ruleset

pytestmark = pytest.mark.usefixtures("breakable")

BOMB = "\n".join(  # ten anchors, each nine times the one before: some 10^9 values
    ["a: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"] + [f"b{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
)
ODD = [  # an overlay, and words of the line that it ends with
    ('experiment: "zz\\n"', "experiment: 'zz\\n' is not valid"),  # Python's `$` stands before a last newline too
    ("conditions: {'a\\n': {method: sft}}", "is not a valid name"),
    ('lora: {target_modules: [q_proj, "x\\n"]}', "lora.target_modules[1]: 'x\\n' is not valid"),
    ("experiment: published", "experiment: results/published is not an experiment's folder"),
    ("experiment: models", "experiment: results/models is not an experiment's folder"),
    (f"ruleset: {'a' * 5000}", "ruleset: no such file: aaa"),
    (f"model: {{source: path, id: {'b' * 5000}}}", "model.id: no such folder: bbb"),
    ('model: {source: path, id: "\\0"}', "model.id: holds the control character U+0000; take it out"),
    ("ruleset: loop.yaml", "overlay.yaml: ruleset: loop.yaml cannot be read (Too many levels of symbolic links)"),
    ("ruleset: empty_folder", "overlay.yaml: ruleset: empty_folder is a folder; name a file"),
    ("conditions: {a: {method: sft, sweep: {label_noise: [0.1, -0.1]}}}", "label_noise[1]: -0.1 is out of range"),
    ("suites: {kinds: all}", "suites.kinds: must be a list, is 'all'; give a list"),
    ("suites: {kinds: decoys}", "suites.kinds: must be a list, is 'decoys'; write [decoys]"),
    ("seeds: 0, 1", "seeds: must be a list, is '0, 1'; write [0, 1]"),
    ("ruleset: https://a.b/c.yaml", "overlay.yaml: ruleset: no such file: https://a.b/c.yaml"),
    ("ruleset: latin.yaml", "latin.yaml: is not text in UTF-8"),
    (f"seeds: {'[' * 3000}{']' * 3000}", "is nested too deeply to be read; flatten it"),
    (BOMB, "once its aliases are written out, of at most 100,000; use fewer aliases"),
    ("seeds: &x [*x]", "line 1: an anchor contains itself"),
    ('experiment: "\\ud800x"', "experiment: holds the control character U+D800"),  # half of a surrogate pair is no text
    (f"conditions: {{{'a' * 300}: {{method: sft}}}}", "is not a valid name"),  # no folder may be called so
    (
        "model: {chat_template_kwargs: {tokenize: false}}",
        "tokenize: is set by the pipeline itself",
    ),
    ("experiment: 2020-01-01", "line 1: 2020-01-01 is read as a date; put it in quotes"),
    ("data: {seed: 0640}", "line 1: 0640 is read as the number 416; put it in quotes"),
    ("data: {seed: 1:30}", "line 1: 1:30 is read as the number 90; put it in quotes"),
    ("sft: {learning_rate: 1:30.5}", "line 1: 1:30.5 is read as a number to the base of 60"),
    ("sft:\n  learning_rate: 0,0002", "sft.learning_rate: '0,0002' is read as text, not a number; write 0.0002"),
    ("sft: {learning_rate: 0,0002}", "line 1: 0002 is read as a key; write decimals with a point, as in 0.5"),
    ("? [a, b]\n: 1", "line 1: a key is a list or a mapping; write a plain word as the key"),
    ("sft: !!int x", "is not valid YAML"),
    ("sft: !!python/object:os.system {}", "is not valid YAML"),
    ("conditions: {a: {method: sft, sweep: {label_noise: [-0.1]}}}", "sweep.label_noise[0]: -0.1 is out of range"),
    ("ruleset: pipe.yaml", "overlay.yaml: ruleset: pipe.yaml is a pipe or a device, not a file; name a file"),
    ("ruleset: /dev/zero", "ruleset: /dev/zero is a pipe or a device"),
    ("ruleset: huge.yaml", "huge.yaml: holds 100.0 MB, of at most 1.0; check that it is the right file"),
    ("ruleset: sixteen.yaml", "sixteen.yaml: is not text in UTF-8"),
    ("ruleset: nothing.yaml", "nothing.yaml: is empty; write keys and values"),
    ("ruleset: '{a}.yaml'", "ruleset: {a}.yaml holds braces"),
    ("ruleset: config.yaml/x.yaml", "ruleset: no such file: config.yaml/x.yaml"),
    ("model: {source: path, id: config.yaml}", "model.id: no such folder: config.yaml"),
    ("model: {source: path, id: loop.yaml}", "model.id: no such folder: loop.yaml"),
    ("model: {source: hub, id: ../.., revision: x}", "model.id: '../..' is no Hub id"),
    ("experiment: con", "experiment: 'con' is not valid"),  # no folder can be called so everywhere
    ("experiment: aux.2", "experiment: 'aux.2' is not valid"),
    ("experiment: laptop.", "experiment: 'laptop.' is not valid"),
    ("experiment: Laptop", "experiment: 'Laptop' is not valid"),
    ("experiment: \u0430bc", "experiment: '\u0430bc' is not valid"),  # a Cyrillic a
    ("seeds: [true]", "seeds[0]: must be a whole number, is true"),
    ("seeds: [-1]", "seeds[0]: -1 is out of range"),
    (f"seeds: [{10**30}]", "is out of range; give a whole number, at least 0 and at most 4294967295"),
    (f"seeds: [{'9' * 5000}]", "line 1: a number is too long; give a smaller one"),
    (f"seeds: [0x{'f' * 5000}]", "line 1: a number is too long; give a smaller one"),
    ("seeds: [1, 1.0]", "seeds: 1.0 stands twice; keep one"),
    ("experiment: !!binary aGk=", "line 1: the tag tag:yaml.org,2002:binary is not allowed; write plain values"),
    ("seeds: !!set {a, b}", "line 1: the tag tag:yaml.org,2002:set is not allowed"),
    ("side_effects: !!bool x", "is not valid YAML ('x'); check tags and numbers"),
    (f"a: &x '{'t' * 20000}'\nb: [{', '.join(['*x'] * 3000)}]", "once its aliases are written out"),
    ('experiment: "\\x1b[31m"', "experiment: holds the control character U+001B; take it out"),
    ('"\\u2028": 1', "holds the control character U+2028"),
]


@pytest.mark.parametrize(("text", "words"), ODD, ids=[text[:40] for text, _ in ODD])
def test_an_odd_config_is_one_line(tmp_path, text, words):
    os.symlink("loop.yaml", "loop.yaml")
    Path("latin.yaml").write_bytes("name: caf\u00e9".encode("latin-1"))
    Path("sixteen.yaml").write_bytes("name: parcels".encode("utf-16"))
    Path("nothing.yaml").touch()
    Path("{a}.yaml").touch()
    os.mkfifo("pipe.yaml")
    with open("huge.yaml", "wb") as huge:
        huge.truncate(100_000_000)
    (tmp_path / "overlay.yaml").write_text(text, encoding="utf-8")
    assert words in the_line(load_config, ["config.yaml", tmp_path / "overlay.yaml"])


@pytest.mark.parametrize(
    ("text", "value"), [("data: {seed: 0}", 0), ("data: {seed: 0x10}", 16), ("data: {seed: +7}", 7)]
)
def test_plain_numbers_are_still_read(tmp_path, text, value):
    (tmp_path / "overlay.yaml").write_text(text, encoding="utf-8")
    assert load_config(["config.yaml", tmp_path / "overlay.yaml"])["data"]["seed"] == value


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"# a comment\r\n", b""])
@pytest.mark.parametrize("name", ["a b.yaml", "caf\u00e9.yaml", "./sub/../a.yaml", "sub//deeper/./a.yaml"])
def test_a_ruleset_may_lie_anywhere_and_have_other_ends_of_line(tmp_path, before, name):
    (tmp_path / "sub/deeper").mkdir(parents=True)
    content = before + PARCELS.read_bytes().replace(b"\n", b"\r\n")
    Path(name).write_bytes(content)
    (tmp_path / "overlay.yaml").write_text(f"ruleset: {name}", encoding="utf-8")
    path = load_config(["config.yaml", tmp_path / "overlay.yaml"])["ruleset"]
    assert load_ruleset(path) == load_ruleset(PARCELS) and "//" not in path and not path.startswith(".")
