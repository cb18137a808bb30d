"""One-line errors for mistakes that a user can fix."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

MAX_LINE = 590  # characters of a message; its longest parts are cut to fit
MIN_PART = 80  # to which a part is cut at most


class UserError(Exception):
    """A mistake in a file or setting of the user's: one line, no traceback.

    The message names the file, the key in it, what is wrong and what would be right:
    `config.yaml: sft.learning_rat: unknown key; did you mean learning_rate?`
    It is one line of printable characters, however long or strange what it quotes.
    """

    def __init__(self, file, key, fault, remedy=None):
        parts = [_one_line(part) if part else "" for part in (file, key, fault, remedy)]
        while (excess := sum(map(len, parts)) - MAX_LINE) > 0 and max(map(len, parts)) > MIN_PART:
            longest = max(range(len(parts)), key=lambda i: len(parts[i]))
            parts[longest] = parts[longest][: max(MIN_PART, len(parts[longest]) - excess) - 1] + "…"
        file, key, fault, remedy = parts
        self.fault, self.remedy = fault, remedy
        super().__init__(": ".join(part for part in (file, key, fault) if part) + (f"; {remedy}" if remedy else ""))


def _one_line(text) -> str:
    """`text` with single blanks between its words, and what cannot be printed as an escape."""
    words = " ".join(str(text).split())
    if words.isprintable():
        return words
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)


# --- settings ---------------------------------------------------------------------------------------------------------

SETTING_FILES = "HIDDEN_RULE_SETTING_FILES"  # environment: JSON, the file that sets each dotted key, later files last


def setting_file(key: str, *beside: str) -> str:
    """The file that sets a dotted key of the config; the workflow tells its jobs.

    Of the keys `beside` it, with which its value conflicts, one may stand in a file that wins over that one: an overlay
    that names another model, say. Then it is that file, which the user wrote and where the key is to be set.
    """
    files: dict[str, str] = json.loads(os.environ.get(SETTING_FILES, "{}"))
    order = list(dict.fromkeys(files.values()))
    found = [file for file in (_nearest(files, each) for each in (key, *beside)) if file]
    return max(found, key=order.index, default="config.yaml")


def _nearest(files: dict[str, str], key: str) -> str | None:
    """The file of a key or of what stands above it."""
    parts = key.split(".")
    above = (".".join(parts[:depth]) for depth in range(len(parts), 0, -1))
    return next((files[each] for each in above if each in files), None)


class SettingError(UserError):
    """A mistake in a setting that shows only in a job: the message names the file in which the user has to set it.

    `beside`: the settings with which its value conflicts, the model's id if not said otherwise.
    """

    def __init__(self, key: str, fault, remedy=None, beside: tuple[str, ...] = ("model.id",)):
        super().__init__(setting_file(key, *beside), key, fault, remedy)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with status 1 and one line, `error: …`, where the block raises a UserError."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
