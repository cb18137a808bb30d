"""The frame of every job: what it prints goes to the terminal and to the rule's log alike; it asks no network."""

import contextlib
import sys
import traceback
import warnings
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.core.offline import restrict_network

DISK_FAULTS = {  # what the operating system says, whichever library passes it on
    "No space left on device": "free some space and run the same command again: finished results are kept",
    "Disk quota exceeded": "free some space and run the same command again: finished results are kept",
    "Read-only file system": "results must lie where they can be written",
    "Permission denied": "results must lie where they can be written",
}


class Tee:
    """A text stream to the terminal and to a log, where a progress bar's carriage returns become newlines."""

    def __init__(self, terminal, log):
        self.terminal, self.log = terminal, log
        self.ended = True  # the line that was written last

    def write(self, text: str) -> int:
        self.terminal.write(text)
        self.ended = text.endswith("\n") if text else self.ended
        with contextlib.suppress(OSError):  # a full disk: the terminal has it, and whoever writes results says so
            self.log.write(text.replace("\r", "\n"))
        return len(text)

    def flush(self) -> None:
        self.terminal.flush()
        with contextlib.suppress(OSError):
            self.log.flush()

    def isatty(self) -> bool:
        return self.terminal.isatty()

    def fileno(self) -> int:
        return self.terminal.fileno()

    @property
    def encoding(self) -> str:
        return self.terminal.encoding


def print_error(text: str) -> None:
    """A line `error: …` of its own on standard error, also after a progress bar."""
    if not getattr(sys.stderr, "ended", True):
        print(file=sys.stderr)
    print(f"error: {text}", file=sys.stderr)


@contextlib.contextmanager
def logged(log_path, hub: bool = False):
    """Copy standard output and error to `log_path`; what a user can fix ends the script with one line, exit status 1.

    Snakemake deletes a log before a job starts; a script may open its own twice. `hub`: the job may ask the Hub; others
    ask no network (`core/offline.py`), if the libraries that would are imported within the block.
    """
    restrict_network(hub)
    path = Path(log_path)
    log, stdout, stderr = None, sys.stdout, sys.stderr
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        log = path.open("a", encoding="utf-8", buffering=1)
        sys.stdout, sys.stderr = Tee(stdout, log), Tee(stderr, log)
        # what libraries say of each other's names is nothing that a user can act on
        warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|trl|peft")
        yield
    except UserError as error:
        print_error(str(error))
        raise SystemExit(1) from None
    except Exception as error:
        if (fault := next((fault for fault in DISK_FAULTS if fault in str(error)), None)) is None:
            traceback.print_exc()
        else:
            print_error(f"{' '.join(str(error).split())}; {DISK_FAULTS[fault]}")
        raise SystemExit(1) from None
    finally:
        sys.stdout, sys.stderr = stdout, stderr
        if log is not None:
            with contextlib.suppress(OSError):
                log.close()
