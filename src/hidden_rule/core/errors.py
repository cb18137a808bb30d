"""One-line errors for mistakes that a user can fix."""

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


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program with status 1 and one line, `error: …`, where the block raises a UserError."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
