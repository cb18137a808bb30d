"""What a script depends on: found in its imports, hashed by meaning."""

import importlib
import textwrap
import time

import pytest

from conftest import ROOT
from hidden_rule.core import sources
from hidden_rule.core.sources import NO_INFLUENCE, code_hash, code_tree, dependencies, schema_hash

SCRIPTS = sorted((ROOT / "workflow" / "scripts").glob("*.py"))
CODE = '''
"""A module."""

# a comment
import os

def f(a, b=1):
    """A function."""
    return {"a": a, 'b': b + 2}

class C:
    """A class."""
'''


def of(text: str) -> bytes:
    return code_tree(textwrap.dedent(text))


@pytest.mark.parametrize(
    ("what", "old", "new"),
    [
        ("a comment", "# a comment", "# another, and\n# a second"),
        ("a module's docstring", "A module.", "Another module."),
        ("a function's docstring", "A function.", "Another\n\n    function."),
        ("no docstring", '    """A function."""\n', ""),
        ("a class's docstring", '"""A class."""', '"""Another class."""\n    "and a string"'),
        ("quotes", "'b'", '"b"'),
        ("brackets and lines", "b + 2}", "(\n        b + 2)\n    }"),
        ("white space", "a, b=1", "a,   b = 1"),
        ("no line between", "import os\n\n", "import os\n"),
    ],
)
def test_what_does_not_change_the_meaning_does_not_change_the_tree(what, old, new):
    assert old in CODE
    assert of(CODE.replace(old, new)) == of(CODE), what


@pytest.mark.parametrize(
    ("what", "old", "new"),
    [
        ("a number", "b + 2", "b + 3"),
        ("its type", "b=1", "b=1.0"),
        ("an operator", "b + 2", "b - 2"),
        ("a value", "return {", "return 0, {"),
        ("a string", '"a": a', '"c": a'),
        ("a default", "b=1", "b"),
        ("an import", "import os", "import sys"),
        ("a statement", "class C:", "x = 1\nclass C:"),
        ("nesting", '    """A class."""', '    """A class."""\n    def g(self): pass'),
    ],
)
def test_what_changes_the_meaning_changes_the_tree(what, old, new):
    assert old in CODE
    assert of(CODE.replace(old, new)) != of(CODE), what


def test_statements_move_between_blocks_only_with_another_tree():
    assert of("if a:\n    b()\nc()") != of("if a:\n    b()\n    c()")


def script(folder, text: str):
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    return path


def test_imports_count_wherever_and_however_they_are_written(tmp_path):
    plain = dependencies(script(tmp_path, "import hidden_rule.task.rewards"))
    assert {"hidden_rule", "hidden_rule.task", "hidden_rule.task.rewards"} <= {*plain}
    for text in (
        "from hidden_rule.task import rewards",
        "from hidden_rule.task.rewards import Reward as R",
        "import hidden_rule.task.rewards as r",
        "def f():\n    if True:\n        from hidden_rule.task import rewards",
    ):
        assert dependencies(script(tmp_path, text)) == plain, text
    assert dependencies(script(tmp_path, "import os, polars")) == []


def test_dependencies_are_those_of_dependencies_too():
    training = dependencies(ROOT / "workflow/scripts/train_grpo.py")
    for name in ("training.grpo", "kernels.attention", "core.tables", "core.costs", "task.rewards", "models.tokens"):
        assert f"hidden_rule.{name}" in training
    assert not [name for name in training if ".report" in name or ".statistics" in name or name in NO_INFLUENCE]
    assert "hidden_rule.task.rewards" not in dependencies(ROOT / "workflow/scripts/train_sft.py")


def test_a_module_counts_for_the_scripts_that_reach_it_alone():
    reached_by = {path.stem for path in SCRIPTS if "hidden_rule.task.ordinary_text" in dependencies(path)}
    assert reached_by == {"measure_side_effects"}


@pytest.mark.parametrize("path", SCRIPTS, ids=[path.stem for path in SCRIPTS])
def test_every_script_has_its_hash(path):
    assert len(code_hash(path)) == 64
    assert "hidden_rule" in dependencies(path)


def test_a_script_s_hash_follows_its_meaning(tmp_path):
    def hashed(text):
        code_hash.cache_clear()
        sources._tree_sha256.cache_clear()
        return code_hash(script(tmp_path, text))

    first = hashed("from hidden_rule.task import rewards\nx = 1")
    assert hashed("# edited\nfrom hidden_rule.task import rewards\nx = (1)") == first
    assert hashed("from hidden_rule.task import rewards\nx = 2") != first
    assert hashed("from hidden_rule.task import replies\nx = 1") != first


def test_modules_without_influence_exist_and_have_a_reason():
    for name, reason in NO_INFLUENCE.items():
        assert importlib.util.find_spec(name) is not None and reason


def test_schemas_count_without_their_descriptions(monkeypatch):
    schema = {"description": "a", "properties": {"description": {"default": 1, "description": "b"}}}

    def hashed(**changes):
        monkeypatch.setattr(sources, "load_schema", lambda name: {**schema, **changes})
        return schema_hash("any")

    assert hashed() == hashed(description="another")
    assert hashed() == hashed(properties={"description": {"default": 1}})
    assert hashed() != hashed(properties={"description": {"default": 2}}) != hashed(properties={})


def test_all_hashes_together_take_a_moment():
    """At every parse of the workflow: some 0.2 s, here with room for a busy machine."""
    for cached in (code_hash, sources._tree_sha256, sources._graph):
        cached.cache_clear()
    began = time.process_time()
    for path in SCRIPTS:
        code_hash(path)
    assert time.process_time() - began < 1.5
