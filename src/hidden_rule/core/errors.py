"""One-line errors for mistakes that a user can fix."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """A mistake in a file or setting of the user's: one line, no traceback.

    The message names the file, the key in it, what is wrong and what would be right:
    `config.yaml: sft.learning_rat: unknown key; did you mean learning_rate?`
    """

    def __init__(self, file, key, fault, remedy=None):
        parts = [str(file)] + ([str(key)] if key else [])
        message = ": ".join(parts) + f": {fault}" + (f"; {remedy}" if remedy else "")
        super().__init__(" ".join(message.split()))


SETTING_FILES = "HIDDEN_RULE_SETTING_FILES"  # environment: JSON, the file that sets each dotted key


def setting_file(key: str) -> str:
    """The file that sets a dotted key of the config, or what stands above it; the workflow tells its jobs."""
    files = json.loads(os.environ.get(SETTING_FILES, "{}"))
    parts = key.split(".")
    for depth in range(len(parts), 0, -1):
        if (above := ".".join(parts[:depth])) in files:
            return files[above]
    return "config.yaml"


class SettingError(UserError):
    """A mistake in a setting that shows only in a job: the message names the file in which the user wrote it."""

    def __init__(self, key: str, fault, remedy=None):
        super().__init__(setting_file(key), key, fault, remedy)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with status 1 and one line, `error: …`, where the block raises a UserError."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
