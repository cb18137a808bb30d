"""Whatever is typed is accepted, and the data are right, or it is one line that names a file.

Some 200 generated inputs, always the same, in CI; `make test-inputs` (HYPOTHESIS_PROFILE=long) draws 3,600 new ones.
"""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from any_inputs import CASES, HOSTILE, mostly, mutated, outcome, same, texts, write_yaml
from bad_inputs import PARCELS, ROOT, breakable  # noqa: F401 - a fixture
from hidden_rule.core.yaml_files import read_yaml
from hidden_rule.experiment import ruleset_fit
from hidden_rule.experiment.conditions import condition_settings
from hidden_rule.experiment.config import check_config, load_config
from hidden_rule.task.dataset import SPLITS, draw_splits
from hidden_rule.task.prompts import render_prompts
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.ruleset_checks import RESERVED_COLUMNS
from hidden_rule.task.suites import KINDS, SuiteSettings, draw_suites, why_not

pytestmark = pytest.mark.usefixtures("breakable", "_each_ruleset_once")


@pytest.fixture
def _each_ruleset_once(monkeypatch):
    """A ruleset that many configs name is checked once."""
    known: dict = {}

    def load(path):
        content = Path(path).read_bytes() if Path(path).is_file() else None
        if content is None:
            return load_ruleset(path)
        if content not in known:
            known[content] = load_ruleset(path)
        return known[content]

    monkeypatch.setattr(ruleset_fit, "load_ruleset", load)


FINCORP = yaml.safe_load((ROOT / "rulesets/fincorp.yaml").read_text(encoding="utf-8"))
CONFIGS = [
    yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in [ROOT / "config.yaml", *sorted((ROOT / "experiments").glob("*.yaml"))]
]


# --- configs ----------------------------------------------------------------------------------------------------------


@CASES
@given(document=st.sampled_from(CONFIGS).flatmap(mutated))
def test_any_config(capfd, document):
    write_yaml(document, Path("overlay.yaml"))
    config = outcome(load_config, ["config.yaml", "overlay.yaml"], captured=capfd)
    if config is not None:
        assert outcome(check_config, config, []) == config  # what was filled in is valid, and always the same
        for name in config["conditions"]:
            json.dumps(condition_settings(config, name), allow_nan=False)


WORDS = ["seeds=[0, 1]", "seeds=[2]", "experiment=e1", "side_effects=true", "sft={epochs: 2}", "data={train: 64}"]
WORDS += ["grpo={beta: 0.5}", "conditions={grpo: false, sft_then_grpo: false}", "decoding=free", "suites={size: 4}"]
words = st.one_of(
    st.sampled_from(WORDS), st.tuples(st.sampled_from(sorted(CONFIGS[0])), texts).map("=".join), texts.map(str)
)


@CASES
@given(given_words=st.lists(words, min_size=1, max_size=3))
def test_any_words_of_the_command_line(capfd, given_words):
    config = outcome(load_config, ["config.yaml"], given_words, captured=capfd)
    if config is not None:
        assert outcome(check_config, config, []) == config


# --- rulesets ---------------------------------------------------------------------------------------------------------

OPERATORS = {
    "=": lambda a, b: a == b,
    "<>": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
GOOD = [name for name in HOSTILE if re.fullmatch("[a-z][a-z0-9_]*", name)] + ["x", "y", "amount", "kind_of"]
GOOD = [name for name in GOOD if name not in RESERVED_COLUMNS]
names = mostly(st.sampled_from(GOOD), st.one_of(st.sampled_from(RESERVED_COLUMNS), texts))
labels = mostly(st.sampled_from(["YES", "NO", "LATER", "null", "all", "hidden", "label", "INVALID", "p_A"]), texts)
colours = st.sampled_from(["red", "blue", "green"])
shown = texts.map(str.strip).filter(lambda text: text and text.isprintable())
choices = st.lists(st.one_of(colours, names, mostly(shown, texts)), min_size=3, max_size=4)


@st.composite
def features(draw) -> dict:
    if draw(st.booleans()):
        text = draw(st.sampled_from(["It is {value}", "{value}", "{value} and {value}", "{labels} {value}"]))
        return {"kind": "choice", "choices": draw(choices.map(lambda items: list(dict.fromkeys(items)))), "text": text}
    low = draw(mostly(st.sampled_from([0, 1, -3, 0.5, -1.5, 0.1]), st.sampled_from([2**52, -(2**53), 1e15, 1e300])))
    step = draw(mostly(st.sampled_from([1, 2, 5, 0.1, 0.25, 3.3]), st.sampled_from([1000, 1e-9, 1e-300, 0.1234567])))
    high = low + step * draw(st.sampled_from([3, 20, 50, 100, 200]))
    spec = {"kind": "number", "low": low, "high": high, "step": step, "text": "{value} m"}
    if draw(st.booleans()):
        spread = draw(st.sampled_from([1, 1e-300, 0.01, 1e300, 7]))
        spec |= {"distribution": "normal", "mean": low + step * draw(st.sampled_from([0, 0.5, 1])), "sd": spread}
    return spec


@st.composite
def comparisons(draw, features: dict):
    """A comparison as SQL, and as a function of a row."""
    name, feature = draw(st.sampled_from(sorted(features.items())))
    column = name if name in ("x", "y", "amount") else '"' + name.replace('"', '""') + '"'
    if feature["kind"] == "choice":
        value = draw(st.sampled_from(feature["choices"]))
        literal, signs = "'" + str(value).replace("'", "''") + "'", ["=", "<>"]
    else:
        n = round((feature["high"] - feature["low"]) / feature["step"])
        value = feature["low"] + feature["step"] * round(n * draw(st.sampled_from([0.3, 0.4, 0.5, 0.6, 0.7, 1])))
        value = draw(st.sampled_from([value, round(value), round(value, 1)]))
        literal, signs = repr(value), [*OPERATORS, "<", ">", "<=", ">="]
    sign = draw(st.sampled_from(signs))
    return f"{column} {sign} {literal}", lambda row: OPERATORS[sign](row[name], value)


@st.composite
def predicates(draw, features: dict):
    """One to three comparisons, joined."""
    sql, holds = draw(comparisons(features))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        more, also = draw(comparisons(features))
        joint = draw(st.sampled_from(["AND", "OR", "AND NOT"]))
        sql, holds = f"({sql}) {joint} ({more})", _joined(joint, holds, also)
    return sql, holds


def _joined(joint: str, one, other):
    return {
        "AND": lambda row: one(row) and other(row),
        "OR": lambda row: one(row) or other(row),
        "AND NOT": lambda row: one(row) and not other(row),
    }[joint]


@st.composite
def rulesets(draw):
    """A ruleset as a document, and its rules as (name, label, is it hidden?, function of a row)."""
    spec = draw(st.dictionaries(names, features(), min_size=2, max_size=3))
    rules, judges = [], []
    decisions = draw(st.lists(labels, min_size=3, max_size=3, unique=True))
    for i in range(2):
        sql, holds = draw(predicates(spec))
        rule = {"name": draw(mostly(st.just(f"r{i}"), names)), "label": decisions[i], "when": sql}
        rules.append(rule | {"hidden": draw(st.booleans()), "says": f"thus {'abc'[i]}"})
        judges.append((rule["name"], rule["label"], rules[-1]["hidden"], holds))
    document = {"name": "any", "features": spec, "rules": rules, "default": decisions[2]}
    system = draw(st.sampled_from(["Of {labels}.", "Of {labels}\n{rules}"]))
    return document | {"prompt": {"system": system, "user": "{features}"}}, judges


def decided(judges, default: str, row: dict, hidden: bool = True) -> tuple[str, str]:
    """Label and rule of a row by plain Python."""
    for name, label, is_hidden, holds in judges:
        if (hidden or not is_hidden) and holds(row):
            return label, name
    return default, "default"


def check_rows(ruleset, judges, frame: pl.DataFrame) -> None:
    """Decisions are what Python makes of the rules, and each prompt holds the values."""
    rows = frame.select(*ruleset.feature_names, "label", "fired_rule", "label_without_hidden").to_dicts()
    for row in rows:
        assert (row["label"], row["fired_rule"]) == decided(judges, ruleset.default, row), row
        assert row["label_without_hidden"] == decided(judges, ruleset.default, row, hidden=False)[0], row
    for row, (_, user) in zip(rows, render_prompts(ruleset, frame), strict=True):
        for feature in ruleset.features:
            value = row[feature.name]
            shown = value if isinstance(value, str) else f"{value:.{feature.decimals}f}"
            assert feature.text.replace("{value}", shown) in user["content"]
            if not isinstance(value, str):
                assert float(shown) == value


@CASES
@given(made=rulesets())
def test_any_ruleset(capfd, made):
    document, judges = made
    write_yaml(document, Path("any.yaml"))
    ruleset = outcome(load_ruleset, "any.yaml", captured=capfd)
    if ruleset is None:
        return
    sizes = dict.fromkeys(SPLITS, 2 * len(ruleset.labels) + 1)
    splits = outcome(draw_splits, ruleset, sizes, 0, "any.yaml", captured=capfd)
    if splits is None:
        return
    for frame in splits.values():
        counts = frame["label"].value_counts()["count"]
        assert len(counts) == len(ruleset.labels) and counts.max() - counts.min() <= 1
        check_rows(ruleset, judges, frame)
    every = pl.concat(splits.values()).select(ruleset.feature_names)
    assert not every.is_duplicated().any()
    kinds = tuple(kind for kind in KINDS if not why_not(ruleset, kind))
    asked = SuiteSettings(kinds, size=2, prevalence=0.5, seed=0)
    suites = outcome(draw_suites, ruleset, asked, splits["train"], "any.yaml", captured=capfd)
    if suites is not None:
        plain = suites.filter(pl.col("shown_text").is_null(), pl.col("field_order").is_null())
        check_rows(ruleset, judges, plain)


@CASES
@given(document=mutated(FINCORP))
def test_any_change_of_a_ruleset(capfd, document):
    write_yaml(document, Path("any.yaml"))
    ruleset = outcome(load_ruleset, "any.yaml", captured=capfd)
    if ruleset is not None:
        frame = ruleset.decide(ruleset.draw(20, np.random.default_rng(0)))
        assert frame["label"].is_in(ruleset.labels).all() and not frame["fired_rule"].null_count()
        assert len(render_prompts(ruleset, frame)) == 20


# --- predicates -------------------------------------------------------------------------------------------------------

COLUMNS = ("contents", "weight_kg", "distance_km")
# fmt: off
SQL = [
    "5", "400.5", "0", "-1", "1e400", "99999999999999999999", "=", "<>", "<", ">=", "AND", "OR", "NOT", "IN",
    "BETWEEN", "LIKE", "IS", "NULL", "TRUE", "(", ")", ",", "+", "-", "*", "/", "%", "||", "~", "::", ".",
    "CASE", "WHEN", "THEN", "ELSE", "END", "ABS(", "UPPER(", "COUNT(", "SUM(", "RANDOM(", "NOW()",
    "current_date", "OVER", "CAST(", "AS", "SQRT(", "POW(", "LN(", "SUBSTR(", "REGEXP_LIKE(", "CONCAT(",
    "COALESCE(", "IF(", "RANK(", "LAG(", "SHIFT(", "int", "SELECT", "EXISTS", "--", "/*", "*/", ";", "^.*$",
    '"^.*$"', '"*"', "COLUMNS('.*')", "$1", "?", "@x", "[1]", "{x}", "'cheese'", "'toys'", "'x'", "''",
    "'it''s'", "DATE", "'2020-01-01'", '"contents"', '"weight_kg"', '"distance_km"',
]
# fmt: on
TOKENS = [*COLUMNS, *COLUMNS, *SQL]
STARTS = ["", "", "distance_km > 400 AND ", "contents = 'toys' OR ", "ABS(distance_km - weight_kg) > ", "NOT "]
fragments = st.lists(mostly(st.sampled_from(TOKENS), texts), min_size=1, max_size=6).map(" ".join)
FUNCTIONS = st.sampled_from(["ABS", "SQRT", "LN", "ROUND", "FLOOR", "SIGN", "SUM", "MAX"])
NUMBERS = ["distance_km", "weight_kg", '"distance_km"', "400", "5.5", "0", "-1", "LENGTH(contents)"]
terms = st.recursive(
    st.sampled_from(NUMBERS),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "%"]), inner).map("({0[0]} {0[1]} {0[2]})".format),
        st.tuples(FUNCTIONS, inner).map("{0[0]}({0[1]})".format),
    ),
    max_leaves=5,
)
conditions = st.one_of(
    st.tuples(terms, st.sampled_from(["=", "<>", "<", ">=", ">"]), terms).map(" ".join),
    st.tuples(terms, terms, terms).map("{0[0]} BETWEEN {0[1]} AND {0[2]}".format),
    st.sampled_from(["contents IN ('toys', 'books')", "contents LIKE 't%'", "UPPER(contents) = 'TOYS'"]),
    st.sampled_from(
        ["SUBSTR(contents, 1, 1) = 't'", "contents || 'x' = 'toysx'", "CONCAT(contents, weight_kg) > 'to'"]
    ),
)
sensible = st.lists(conditions, min_size=1, max_size=3).flatmap(
    lambda parts: st.sampled_from([" AND ", " OR ", " AND NOT "]).map(lambda joint: joint.join(parts))
)


@CASES
@given(when=st.one_of(sensible, st.builds(str.__add__, st.sampled_from(STARTS), st.one_of(conditions, fragments))))
def test_any_predicate(capfd, when):
    document = yaml.safe_load(PARCELS.read_text(encoding="utf-8"))
    document["rules"][1] = {"name": "any", "label": "AIR", "when": when, "says": "as it says"}
    write_yaml(document, Path("any.yaml"))
    ruleset = outcome(load_ruleset, "any.yaml", captured=capfd)
    if ruleset is not None:  # row by row as all at once, and the same again
        frame = ruleset.draw(40, np.random.default_rng(0))
        whole = ruleset.decide(frame)
        assert whole.equals(pl.concat(ruleset.decide(row) for row in frame.iter_slices(1)))
        assert whole.reverse().equals(ruleset.decide(frame.reverse()))


# --- files ------------------------------------------------------------------------------------------------------------

SOURCES = [path.read_bytes() for path in (ROOT / "config.yaml", PARCELS, ROOT / "experiments/smoke.yaml")]
# fmt: off
SNIPPETS = [
    b"&a ", b"*a", b"!!set {x}", b"!!int x", b"<<: ", b"? ", b"- ", b": ", b"{", b"}", b"[", b"]", b"'", b"#",
    b"0640", b"1:30", b"2020-01-01", b"1_0", b".inf", b"=: 1\n", b"%YAML 3\n", b"%TAG ! x\n", b"\t", b"\r\n",
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"!!binary aGk=", b"|\n", b">-\n", b'"', b"---\n", b"...\n",
    b"null: 1\n", b"\n", b"  ", b"0x" + b"f" * 400, b"9" * 5000, b"[" * 400,
]
# fmt: on


@st.composite
def files(draw) -> bytes:
    """A file of ours with bytes put in, cut out or doubled; or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=60))
    content = draw(st.sampled_from(SOURCES))
    content = content if draw(st.booleans()) else content[:300]
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(content)))
        until = at + draw(st.integers(0, 30))
        middle = draw(st.one_of(st.sampled_from(SNIPPETS), st.binary(max_size=3), st.just(content[at:until] * 2)))
        content = content[:at] + middle + content[draw(st.sampled_from([at, until])) :]
    return content.decode("utf-8").encode("utf-16") if draw(st.integers(0, 30)) == 0 and content.isascii() else content


@CASES
@given(content=files())
def test_any_file(capfd, content):
    Path("any.yaml").write_bytes(content)
    document = outcome(read_yaml, "any.yaml", captured=capfd)
    if document is not None:  # what is left of YAML is read as everyone reads it
        assert same(document, yaml.safe_load(content.decode("utf-8")))
        outcome(load_config, ["config.yaml", "any.yaml"], captured=capfd)
        outcome(load_ruleset, "any.yaml", captured=capfd)
