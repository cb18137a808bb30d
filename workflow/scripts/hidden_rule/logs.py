"""Send what a script prints to the terminal and to the rule's log alike."""

import contextlib
import sys
import traceback
import warnings
from pathlib import Path

from .errors import UserError


class Tee:
    """A text stream to the terminal and to a log, where a progress bar's carriage returns become newlines."""

    def __init__(self, terminal, log):
        self.terminal, self.log = terminal, log

    def write(self, text: str) -> int:
        self.terminal.write(text)
        self.log.write(text.replace("\r", "\n"))
        return len(text)

    def flush(self) -> None:
        self.terminal.flush()
        self.log.flush()

    def isatty(self) -> bool:
        return self.terminal.isatty()

    def fileno(self) -> int:
        return self.terminal.fileno()

    @property
    def encoding(self) -> str:
        return self.terminal.encoding


@contextlib.contextmanager
def logged(log_path):
    """Copy standard output and error to `log_path`; a UserError ends the script with its one line, exit status 1."""
    path = Path(log_path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", buffering=1) as log:
        stdout, stderr = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = Tee(stdout, log), Tee(stderr, log)
        # what libraries say of each other's names is nothing that a user can act on
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft")
        try:
            yield
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(1) from None
        except Exception:
            traceback.print_exc()
            raise SystemExit(1) from None
        finally:
            sys.stdout, sys.stderr = stdout, stderr
