"""The reward as an engine asks for it: our parser and our rewards, in the engine's own process.

An engine loads a small file of ours (`verl_reward.py`, …), which asks `opened().score(reply, place)`. It never raises,
for engines drop what raises, or end: an error is written down, and the training fails by it afterwards. Every scored
reply is written down too, one JSON object a line, in a file of this process's own: from these lines history, predicted
shares and token counts are made (`rollouts.py`).

Imported in the engine's environment: nothing but the standard library and `hidden_rule.task` may be imported here.
"""

import functools
import json
import os
import socket
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

from hidden_rule.task.replies import parse_reply
from hidden_rule.task.reward_file import TOTAL, OwnReward, load_reward, plain_text
from hidden_rule.task.rewards import reward

DOOR = "HIDDEN_RULE_REWARD_DOOR"  # environment: the file of a `Door`
ATTEMPT = "HIDDEN_RULE_ATTEMPT"  # environment: the attempt's number, which names the files that are written
BEGAN = "HIDDEN_RULE_BEGAN"  # environment: time.time() at which it began
ERRORS = "errors.jsonl"  # beside the rollouts


@dataclass(frozen=True)
class Door:
    """What a reward needs to know; as JSON in a file."""

    labels: list[str]
    scale: dict  # the reward among a condition's settings
    prompts: str  # the prompts' file
    rollouts: str  # the folder that is written to
    unit: float = 1.0  # points that count as 1 to the engine; what is written down are points

    def write(self, path) -> None:
        Path(path).write_text(json.dumps(asdict(self)), encoding="utf-8")


class RewardDoor:
    """Scores replies and writes them down."""

    def __init__(self, door: Door, attempt: int, began: float):
        self.door, self.labels, self.began = door, tuple(door.labels), began
        self.rows = [json.loads(line) for line in Path(door.prompts).read_text(encoding="utf-8").splitlines()]
        self.folder = Path(door.rollouts)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file = self.folder / f"{attempt}.{socket.gethostname()}.{os.getpid()}.jsonl"
        self._own: OwnReward | None = None

    def score(self, reply: str, place: int, n_tokens: int | None = None, prompt_ids: list[int] | None = None) -> float:
        """What a reply to the prompt at `place` in the prompts' file earns; 0 where something is wrong, which is noted.

        n_tokens: of the reply, where the engine says; prompt_ids: the prompt's tokens as the engine asked them, which
        have to be ours. Never raises.
        """
        try:
            row = self.rows[place]
            if prompt_ids is not None and list(prompt_ids) != row["tokens"]:
                raise ValueError(f"the engine made other tokens of prompt {row['row']}: {list(prompt_ids)[:60]}")
            parts = self._parts(reply, row)
            points = float(sum(parts.values()))
            predicted = parse_reply(reply, self.labels)
        except (Exception, SystemExit) as error:
            self.note(error, place, reply)
            return 0.0
        line = {"place": place, "reply": reply, "predicted": predicted, "points": points, "n_tokens": n_tokens}
        line |= {"parts": {} if TOTAL in parts else parts, "at": time.time(), "began": self.began}
        self._append(self.file, line)
        return points / self.door.unit

    def note(self, error: BaseException, place=None, reply=None) -> None:
        """Write an error down."""
        told = {"error": f"{type(error).__name__}: {error}", "user": type(error).__name__.endswith("UserError")}
        trace = traceback.format_exception(error)[-12:]
        line = {**told, "text": str(error), "place": place, "reply": reply, "trace": trace}
        self._append(self.folder / ERRORS, line)

    def _parts(self, reply: str, row: dict) -> dict[str, float]:
        """The points of a reply by part."""
        if "file" not in self.door.scale:
            return {TOTAL: reward(reply, row["label"], self.labels, self.door.scale)}
        if self._own is None:
            self._own = load_reward(self.door.scale["file"], self.door.scale["function"])
        parts = self._own.score([plain_text(reply, self.labels)], [row["case"]])
        return {name: points[0] for name, points in parts.items()}

    @staticmethod
    def _append(path: Path, line: dict) -> None:
        """One write of a whole line at the file's end, which other processes' lines do not come between."""
        data = (json.dumps(line) + "\n").encode()
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)


@functools.cache
def opened() -> RewardDoor:
    """The door that the environment names, opened once a process."""
    values = json.loads(Path(os.environ[DOOR]).read_text(encoding="utf-8"))
    return RewardDoor(Door(**values), int(os.environ[ATTEMPT]), float(os.environ[BEGAN]))
