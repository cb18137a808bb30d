"""One-line errors for mistakes that a user can fix."""


class UserError(Exception):
    """A mistake in a file or setting of the user's: one line, no traceback.

    The message names the file, the key in it, what is wrong and what would be right:
    `config.yaml: sft.learning_rat: unknown key; did you mean learning_rate?`
    """

    def __init__(self, file, key, fault, remedy=None):
        parts = [str(file)] + ([str(key)] if key else [])
        message = ": ".join(parts) + f": {fault}" + (f"; {remedy}" if remedy else "")
        super().__init__(" ".join(message.split()))
