"""Calls on hostile inputs, in a process that records what they write, start, load as code, and whom they connect to.

`python audited.py FOLDER`: `FOLDER/calls.json` lists calls, each with `name`, `call` (`module:function`) and
`arguments`; they are made one after the other within `FOLDER/work`, and `FOLDER/found.json` says what came of each.
What native code does, Python does not hear of: tests look for files that it would leave, and listen where it would
connect to.
"""

import importlib
import json
import os
import sys
import traceback
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate"}
CONNECTS = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"}
STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork"}


class Record:
    """What was heard since it was last emptied."""

    def __init__(self, folder: Path):
        self.folder, self.heard = str(folder), {}
        self.listening = False

    def hear(self, event: str, arguments: tuple) -> None:
        """An audit hook."""
        if not self.listening:
            return
        if event == "open":
            path, mode, flags = arguments
            if not isinstance(path, int) and (set("wax+") & set(mode or "") or (flags or 0) & WRITING):
                self.note("writes", path)
        elif event in CHANGES:
            above = arguments[-1] if isinstance(arguments[-1], int) and arguments[-1] >= 0 else None  # an open folder
            for path in [part for part in arguments[:2] if isinstance(part, str | bytes | os.PathLike)]:
                self.note("writes", path if above is None else f"/proc/self/fd/{above}/{os.fsdecode(path)}")
        elif event in CONNECTS:
            self.note("connects", repr(arguments[-1]), as_path=False)
        elif event in STARTS:
            self.note("starts", repr(arguments[0]), as_path=False)
        elif event == "pickle.find_class":
            self.note("loads", ".".join(map(str, arguments)), as_path=False)
        elif event in ("exec", "import"):
            name = getattr(arguments[0], "co_filename", None) if event == "exec" else arguments[1]
            if name and name[:1] != "<" and os.path.abspath(name).startswith(self.folder):
                self.note("loads", name)

    def note(self, kind: str, what, as_path: bool = True) -> None:
        text = os.path.realpath(os.path.dirname(os.path.abspath(os.fsdecode(what)))) if as_path else what
        text = f"{text}/{os.path.basename(os.fsdecode(what))}" if as_path else text
        self.heard.setdefault(kind, {})[text] = None


def result_of(call: str, arguments: list) -> dict:
    """What a call ended with: `line` of a UserError, or `value` as text; a `traceback` where it was another error."""
    from hidden_rule.core.errors import UserError

    module, _, name = call.partition(":")
    try:
        return {"value": str(getattr(importlib.import_module(module), name)(*arguments))[:2000]}
    except UserError as error:
        return {"line": str(error)}
    except SystemExit as error:
        return {"line": str(error.code)}
    except BaseException:
        return {"traceback": traceback.format_exc()[-3000:]}


def main(folder: Path) -> None:
    record = Record(folder)
    sys.addaudithook(record.hear)
    os.chdir(folder / "work")
    found = {}
    for of in json.loads((folder / "calls.json").read_text()):
        importlib.import_module(of["call"].partition(":")[0])
        record.heard, record.listening = {}, True
        result = result_of(of["call"], of["arguments"])
        record.listening = False
        found[of["name"]] = result | {kind: list(heard) for kind, heard in record.heard.items()}
    (folder / "found.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
