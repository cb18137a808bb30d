"""A reward of the user's own: a function in a Python file, called with replies and cases, and blamed by file and line.

    def reward(replies, cases):          # lists of equal length, of texts and of dictionaries
        return [points, …]               # a number a reply; or {"part": [points, …], …}, which are added

A case holds its features and `label`, the right decision. A valid reply is `{"decision": "<label>"}`, with the label
itself where a model writes another word for it (`replies.py`). The file runs as it stands, and stands alone: its folder
is not on the path of imports, so that what it holds is all that the reward depends on beside installed packages.
"""

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import inspect
import itertools
import json
import math
import numbers
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

import polars as pl

from hidden_rule.core.errors import UserError
from hidden_rule.core.schemas import did_you_mean
from hidden_rule.core.yaml_files import read_text
from hidden_rule.task.replies import parse_reply
from hidden_rule.task.reward_limit import TooLongError, time_limit

MOST = 1_000_000.0  # points in size, as in the config
SHOWN = 60  # characters of a reply or a value that an error quotes
TOTAL = ""  # the name of the only part of a reward that has no parts
RETURN = "return a list of finite numbers, one a reply"
IMPORT_S = 60.0  # that importing a file may take
CALL_S, REPLY_S, MOST_S = 10.0, 0.5, 600.0  # that a call may take, and beside it each reply; in all
CAUGHT = (Exception, SystemExit, TooLongError)


class _Uncached(importlib.machinery.SourceFileLoader):
    """Compiles the file as it is now: no bytecode of an earlier one is read, and none is written beside it."""

    def get_code(self, fullname):
        return self.source_to_code(self.get_data(self.path), self.path)


@dataclass(frozen=True)
class OwnReward:
    """A loaded reward function; `score` calls it and checks what it returns."""

    file: str  # as the user wrote it
    name: str  # of the function
    function: Callable
    parts: list[str] = field(default_factory=list)  # names of the first call's

    @property
    def place(self) -> str:
        """File and line of the function."""
        code = getattr(inspect.unwrap(self.function), "__code__", None)
        return f"{self.file}:{code.co_firstlineno}" if code and _same(code.co_filename, self.file) else self.file

    def error(self, fault: str, remedy: str) -> UserError:
        """An error of the function as a whole."""
        return UserError(self.place, f"{self.name}()", fault, remedy)

    def score(self, replies: list[str], cases: list[dict]) -> dict[str, list[float]]:
        """Points of each reply by part; the only part is TOTAL where the function returns one list.

        Raises UserError for whatever the function does wrong, with file and line, and reply and case where it is one's.
        """
        returned = self._call(replies, cases)
        parts = {TOTAL: returned} if not isinstance(returned, dict) else returned
        if not parts or not all(isinstance(name, str) and (name or parts is not returned) for name in parts):
            raise self.error(f"returns {shown(returned)}", 'return parts as {"name": [points, …]}')
        self.parts[:] = self.parts or parts
        if {*parts} != {*self.parts}:
            fault = f"returns other parts than before ({listed(parts)}, and before {listed(self.parts)})"
            raise self.error(fault, "return the same parts whatever the replies")
        return {name: self._checked(name, parts[name], replies, cases) for name in self.parts}

    def points(self, replies: list[str], cases: list[dict]) -> list[float]:
        """Points of each reply, parts added."""
        return added(self.score(replies, cases))

    def check_time(self, reply: str, case: dict) -> None:
        """Raise UserError if the function does not return for one reply; whatever else it does is found elsewhere."""
        try:
            self._run([reply], [case])
        except TooLongError as error:
            raise self._raised(error, of_one(reply, case)) from None
        except (Exception, SystemExit):
            pass

    def _call(self, replies: list[str], cases: list[dict]):
        """What the function returns; an exception is put down to the first reply that raises it alone, if one does."""
        try:
            return self._run(replies, cases)
        except CAUGHT as error:
            for reply, case in zip(replies, cases, strict=True):
                try:
                    self._run([reply], [case])
                except CAUGHT as alone:
                    raise self._raised(alone, of_one(reply, case)) from None
            raise self._raised(error, f"for {len(replies)} replies together") from None

    def _run(self, replies: list[str], cases: list[dict]):
        seconds = min(MOST_S, CALL_S + REPLY_S * len(replies))

        def last_words(error: TooLongError) -> UserError:
            return self._raised(error, of_one(replies[0], cases[0]) if len(replies) == 1 else "")

        limit = time_limit(seconds, lambda frame: line_in(traceback.walk_stack(frame), self.file), last_words)
        with contextlib.redirect_stdout(sys.stderr), limit:  # what Snakemake prints is read by programs
            returned = self.function(list(replies), [dict(case) for case in cases])
            if isinstance(returned, dict):
                return {name: _written_out(values, len(replies)) for name, values in returned.items()}
            return _written_out(returned, len(replies))

    def _raised(self, error: BaseException, about: str) -> UserError:
        if isinstance(error, TooLongError):
            place = f"{self.file}:{error.line}" if error.line else self.place
            remedy = f"let it return: a call may compute for {CALL_S:g} s, and {REPLY_S:g} s a reply"
            return UserError(place, f"{self.name}()", f"does not return in time {about}".rstrip(), remedy)
        line = line_of(error, self.file)
        place = f"{self.file}:{line}" if line else self.place
        remedy = "correct the line: whatever a policy replies earns points"
        return UserError(place, f"{self.name}()", f"raises {exception_text(error)} {about}", remedy)

    def _checked(self, part: str, values, replies: list[str], cases: list[dict]) -> list[float]:
        """The values of a part as finite numbers."""
        of_part = f" as {shown(part)}" if part else ""
        if inspect.isawaitable(values):
            raise self.error("is async", "define it with def")
        values = values.tolist() if hasattr(values, "tolist") else values  # an array or a tensor
        if not isinstance(values, Iterable) or isinstance(values, str | bytes | dict | set | frozenset):
            raise self.error(f"returns {shown(values)}{of_part}", RETURN)
        values = list(itertools.islice(values, len(replies) + 1))
        if len(values) != len(replies):
            n = f"{len(values)} {'value' if len(values) == 1 else 'values'}"
            n = n if len(values) < len(replies) else f"more than {len(replies)} values"
            raise self.error(f"returns {n}{of_part} for {len(replies)} replies", RETURN)
        for value, reply, case in zip(values, replies, cases, strict=True):
            if fault := _number_fault(value):
                raise self.error(f"returns {fault}{of_part} {of_one(reply, case)}", RETURN)
        return [float(value) for value in values]


def added(parts: dict[str, list[float]]) -> list[float]:
    """The sum of the parts, reply by reply."""
    return [sum(values) for values in zip(*parts.values(), strict=True)]


def plain_reply(label: str) -> str:
    """The valid reply that decides `label`, as a reward function sees it."""
    return json.dumps({"decision": label}, ensure_ascii=False)


def plain_text(reply: str, labels) -> str:
    """A model's reply as a reward function sees it: as written, but with the label itself for its word."""
    label = parse_reply(reply, labels)
    return reply if label is None or json.loads(reply)["decision"] == label else plain_reply(label)


def cases_of(frame: pl.DataFrame, ruleset) -> list[dict]:
    """What a reward function gets to know of each row: its features and `label`."""
    return frame.select(*ruleset.feature_names, "label").to_dicts()


def load_reward(file: str, name: str) -> OwnReward:
    """The function `name` of the Python file `file`; whatever is wrong with either is a UserError of one line."""
    read_text(file)  # missing, a folder, a pipe, not UTF-8
    module = _imported(file)
    if not hasattr(module, name):
        raise UserError(file, None, f"has no function {shown(name)}", _meant(name, module))
    function = getattr(module, name)
    if not callable(function):
        raise UserError(file, name, f"is {shown(function)}, no function", f"define {name}(replies, cases)")
    own = OwnReward(file, name, function)
    if inspect.iscoroutinefunction(function):
        raise own.error("is async", "define it with def")
    try:
        inspect.signature(function).bind([], [])
    except TypeError as error:
        fault = f"cannot be called with replies and cases ({error})"
        raise own.error(fault, f"define {name}(replies, cases)") from None
    except ValueError:  # a builtin without a signature
        pass
    return own


def _meant(name: str, module) -> str:
    """What to do about a function that is not there: the one that was meant, those that are there, or define it."""
    functions = filter(inspect.isfunction, vars(module).values())
    known = [function.__name__ for function in functions if function.__module__ == module.__name__]
    otherwise = f"set reward.function: {' or '.join(known)}" if known else f"define {name}(replies, cases)"
    return did_you_mean(name, known, otherwise)


def _imported(file: str):
    """The module of a file, under a name that no other has; errors name the line."""
    path = os.path.abspath(file)
    name = f"hidden_rule_reward_{hashlib.sha256(path.encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path, loader=_Uncached(name, path))
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type] # a loader is given
    sys.modules[name] = module  # dataclasses look their module up there
    limit = time_limit(IMPORT_S, lambda frame: line_in(traceback.walk_stack(frame), file), partial(_import_error, file))
    try:
        with contextlib.redirect_stdout(sys.stderr), limit:
            spec.loader.exec_module(module)  # type: ignore[union-attr]
    except CAUGHT as error:
        del sys.modules[name]
        raise _import_error(file, error) from None
    return module


def _import_error(file: str, error: BaseException) -> UserError:
    if isinstance(error, TooLongError):
        place = f"{file}:{error.line}" if error.line else file
        fault, remedy = "does not end in time when it is imported", f"let it end: it may compute for {IMPORT_S:g} s"
        return UserError(place, None, fault, remedy)
    if isinstance(error, SyntaxError) and (not error.filename or _same(error.filename, file)):
        place = f"{file}:{error.lineno}" if error.lineno else file
        return UserError(place, None, f"is not Python ({error.msg})", "correct it")
    line = line_of(error, file)
    place = f"{file}:{line}" if line else file
    if isinstance(error, ImportError):
        remedy = "install it, or, if it lies beside the file, put what it holds into the file"
        return UserError(place, None, f"cannot be imported: {exception_text(error)}", remedy)
    return UserError(place, None, f"raises {exception_text(error)} when it is imported", "correct the line")


def line_of(error: BaseException, file: str) -> int | None:
    """The last line of the file that an exception passed through."""
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if _same(frame.f_code.co_filename, file)]
    return lines[-1] if lines else None


def line_in(frames: Iterable, file: str) -> int | None:
    """The line of the file in the first of some frames, each with its line, that is of the file."""
    return next((line for frame, line in frames if _same(frame.f_code.co_filename, file)), None)


def _written_out(values, n: int):
    """Values that are computed only when asked for, as a list of at most `n` + 1 of them; others as they are."""
    return list(itertools.islice(values, n + 1)) if isinstance(values, Iterator) else values


def exception_text(error: BaseException) -> str:
    """`ValueError: what it says`, shortened."""
    try:
        said = " ".join(str(error).split())
    except Exception:  # of the user's own class
        said = ""
    text = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return text if len(text) <= 2 * SHOWN else f"{text[: 2 * SHOWN - 1]}…"


def of_one(reply: str, case: dict) -> str:
    """A reply and its case, for an error."""
    described = json.dumps(case, ensure_ascii=False, default=str)
    return f"for the reply {shown(reply)} to the case {described}"


def listed(parts: Iterable[str]) -> str:
    """Names of parts, for an error."""
    return ", ".join(map(shown, parts)) if TOTAL not in parts else "none"


def shown(value) -> str:
    """A value as Python writes it, shortened."""
    try:
        text = repr(value)
    except Exception:  # of the user's own class
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _number_fault(value) -> str | None:
    """What is wrong with a value as points, or None."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return shown(value)
    try:
        number = float(value)
    except (OverflowError, ValueError):
        number = math.inf
    if not math.isfinite(number):
        return shown(value)
    return None if abs(number) <= MOST else f"{shown(value)}, more than {MOST:,.0f} in size,"


def _same(path: str, file: str) -> bool:
    return os.path.abspath(path) == os.path.abspath(file)
