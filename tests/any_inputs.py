"""Inputs that nobody would write, drawn by hypothesis, and what each of them may end in."""

import contextlib
import copy
import math
import os
import time
import warnings
from pathlib import Path

import yaml
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st

from hidden_rule.core.errors import UserError

MAX_S, MAX_WALL_S = 5.0, 60.0  # of a case, of a processor and of the clock: other work runs beside the tests
LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
CASES = settings(
    max_examples=600 if LONG else 35,
    derandomize=not LONG,  # the same cases each time in CI, others each time in the long form
    print_blob=LONG,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

# --- values -----------------------------------------------------------------------------------------------------------

HOSTILE = [
    *("null", "true", "no", "~", "__index_level_0__", "^.*$", "*", "label", "fired_rule", "application_id", "p_A"),
    *("select", "order", "group", "case", "when", "and", "not", "like", "in", "count", "now", "current_date", "over"),
    *("suite", "family", "role", "index", "len", "literal", "all", "hidden", "default", "INVALID", "predicted", "row"),
    *("a'b", 'a"b', "a`b", "a\\b", "{value}", "{features}", "{labels}", "{", "}", "%s", "$x", "-", "--", "/* */", ";"),
    *("\u00e9", "e\u0301", "\u202e", "\u2028", "\x00", "\x1b[31m", "\ud800", "\ufeff", "\u0130", "\U0001f600", "\t"),
    *("", " ", " a", "a ", "a\n", "x" * 300, "0640", "1:30", "2020-01-01", "1e5", "0,5", ".nan", "0x10", "1_000"),
    *("../x", "/", "a/b", ".", "..", "con", "C:\\x", "<b>", "<|im_end|>", "&amp;", "!!python/object:os.system"),
]
texts = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12))
numbers = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**53, 2**63, -(2**63), 10**25, 10**400, 1e308, 1e-308, 5e-324, 0.1, -0.0, 1e22]),
    st.floats(),
)
plain = st.one_of(st.none(), st.booleans(), numbers, texts)
values = st.recursive(
    plain, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)), max_leaves=8
)


def mostly(good, other):
    """Values of one strategy, and one in thirty of another."""
    return st.integers(0, 29).flatmap(lambda chance: other if chance == 29 else good)


@st.composite
def mutated(draw, document: dict) -> dict:
    """A document with one to three places changed: another value, another name, gone, a level deeper, a value moved."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["value", "value", "like", "name", "gone", "deeper", "moved"]))
        if change == "value":
            holder[key] = draw(values)
        elif change == "like":
            holder[key] = draw(_like(holder[key]))
        elif change == "gone":
            del holder[key]
        elif change == "deeper":
            holder[key] = draw(st.sampled_from([[holder[key]], {"x": holder[key]}, {str(key): holder[key]}]))
        elif change == "moved":
            other, at = draw(st.sampled_from(places))
            with contextlib.suppress(IndexError, KeyError):
                other[at] = copy.deepcopy(holder[key])
        elif isinstance(holder, dict):
            holder[draw(texts)] = holder.pop(key)
    return document


def _like(value):
    """Values of the same type: those that come near to being accepted."""
    if isinstance(value, bool):
        return st.booleans()
    if isinstance(value, int | float):
        return st.one_of(st.integers(0, 40), st.sampled_from([value * 2, value + 1, value / 2, -value, float(value)]))
    if isinstance(value, str):
        return st.one_of(texts, st.just(value + "\n"), st.just(value.upper()), st.just(value * 30))
    return values


def _places(document):
    """Holder and key of everything in a document."""
    children = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in list(children):
        yield document, key
        if isinstance(value, dict | list):
            yield from _places(value)


def write_yaml(document, path: Path) -> None:
    """`document` as YAML in a file, by hand where PyYAML cannot write it (halves of surrogate pairs)."""
    path.write_bytes(yaml.safe_dump(document, sort_keys=False).encode("utf-8", "backslashreplace"))


# --- outcomes ---------------------------------------------------------------------------------------------------------


def outcome(function, *arguments, captured=None):
    """What a call gives, or None for one line. Anything else fails: a traceback, a warning, a wait, words on stderr."""
    began, started, result = time.process_time(), time.perf_counter(), None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            result = function(*arguments)
        except UserError as error:
            line = str(error)
            assert line.isprintable(), f"not one printable line: {line!r}"
            assert len(line) < 600, f"a line of {len(line)} characters: {line}"
            assert ": " in line, f"names no file: {line}"
            line.encode("utf-8")
    event(f"{function.__name__}: {'one line' if result is None else 'accepted'}")
    took, waited = time.process_time() - began, time.perf_counter() - started
    assert took < MAX_S and waited < MAX_WALL_S, f"took {took:.1f} s of {waited:.1f} s"
    if captured is not None:
        said = captured.readouterr().err
        assert not said, f"said {said!r}"
    return result


def same(a, b) -> bool:
    """Whether two values of YAML are equal, types and NaN included."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    return type(a) is type(b) and a == b
