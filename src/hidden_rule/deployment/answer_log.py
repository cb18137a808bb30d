"""A file of answers, a JSON line each, that is on its way to the disk before the answer leaves the server."""

import json
import os
import threading
from pathlib import Path

from hidden_rule.core.errors import UserError


class AnswerLog:
    """Appends lines to a file that only its owner can read: cases are other people's data.

    A line is one write to the kernel, so that a killed process loses none of them and leaves none half-written.
    """

    def __init__(self, path):
        """Raises UserError if the file cannot be written."""
        self.path = Path(path)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._descriptor = os.open(self.path, flags, 0o600)
        except OSError as error:
            reason = f"cannot be written ({error.strerror})"
            raise UserError(
                self.path, None, reason, "name a file in a folder that exists, as in LOG=answers.jsonl"
            ) from None
        self._lock = threading.Lock()
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":  # a disk that was full cut the last line
            self._write(b"\n")

    def append(self, record: dict) -> None:
        """Write a record as one line; raises OSError if it cannot be written whole."""
        self._write(json.dumps(record, ensure_ascii=False).encode("utf-8") + b"\n")

    def _write(self, line: bytes) -> None:
        with self._lock:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(f"{self.path}: {written} of {len(line)} bytes were written")

    def close(self) -> None:
        os.close(self._descriptor)
