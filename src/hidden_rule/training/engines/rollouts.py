"""What an engine's policy replied, as the reward door wrote it down: the history of a training, and its faults."""

import json
from dataclasses import dataclass
from pathlib import Path

from hidden_rule.core.errors import UserError
from hidden_rule.training.engines.reward_door import ERRORS
from hidden_rule.training.watcher import PART_PREFIX, SHARE_PREFIX


@dataclass(frozen=True)
class Rollout:
    """A scored reply."""

    attempt: int
    place: int  # of its prompt in the prompts' file
    reply: str
    predicted: str | None  # None: no valid reply
    points: float
    n_tokens: int | None  # of the reply
    parts: dict[str, float]  # of the points, by name; empty without parts
    at: float  # time.time() of its scoring
    began: float  # time.time() at which the attempt began


@dataclass(frozen=True)
class Step:
    """A training step's replies, all its groups together."""

    number: int  # from 1
    rollouts: list[Rollout]

    def metrics(self, labels) -> dict[str, float]:
        """Its part of a history, by name; `predicted_share/<label>` of a label, `reward/<name>` of a part of a reward.

        `zero_signal_share` is of the groups (replies to one prompt) whose replies all earned the same.
        """
        n = len(self.rollouts)
        groups: dict[int, set[float]] = {}
        for each in self.rollouts:
            groups.setdefault(each.place, set()).add(each.points)
        predicted = [each.predicted for each in self.rollouts]
        parts = dict.fromkeys(name for each in self.rollouts for name in each.parts)
        return {
            "reward": sum(each.points for each in self.rollouts) / n,
            "zero_signal_share": sum(len(points) == 1 for points in groups.values()) / len(groups),
            "invalid_share": predicted.count(None) / n,
            **{SHARE_PREFIX + label: predicted.count(label) / n for label in labels},
            **{PART_PREFIX + name: sum(each.parts.get(name, 0.0) for each in self.rollouts) / n for name in parts},
        }


def read_rollouts(folder) -> list[Rollout]:
    """All scored replies, in the order of their places; of a place that several attempts came to, the last one's.

    The last line of a process that was killed may be cut short, and is left out.
    """
    found: dict[int, list[Rollout]] = {}
    for path in sorted(Path(folder).glob("*.*.*.jsonl")):
        attempt = int(path.name.partition(".")[0])
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rollout = Rollout(attempt=attempt, **json.loads(line))
            except ValueError:
                continue
            found.setdefault(rollout.place, []).append(rollout)
    latest = {place: max(each.attempt for each in rollouts) for place, rollouts in found.items()}
    return [each for place in sorted(found) for each in found[place] if each.attempt == latest[place]]


def steps_of(rollouts: list[Rollout], batch_size: int) -> list[Step]:
    """The replies by training step; `batch_size`: prompts a step."""
    by_step: dict[int, list[Rollout]] = {}
    for each in rollouts:
        by_step.setdefault(each.place // batch_size + 1, []).append(each)
    return [Step(number, by_step[number]) for number in sorted(by_step)]


class Tail:
    """The lines that attempts add to the files of a folder, read as they grow."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self._read: dict[Path, int] = {}  # bytes of whole lines, by file
        self._place: int | None = None

    def last_place(self, attempt: int) -> int | None:
        """The largest place of a prompt that an attempt has scored a reply to, so far."""
        for path in self.folder.glob(f"{attempt}.*.*.jsonl"):
            with path.open("rb") as stream:
                stream.seek(self._read.get(path, 0))
                new = stream.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read[path] = self._read.get(path, 0) + len(whole)
            places = [json.loads(line)["place"] for line in whole.splitlines()]
            self._place = max([*places, *([] if self._place is None else [self._place])], default=None)
        return self._place


def first_error(folder) -> dict | None:
    """The first error that the reward door wrote down, or None."""
    path = Path(folder) / ERRORS
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        try:
            return json.loads(line)
        except ValueError:
            continue
    return None


def check_rollouts(folder, engine: str, log) -> None:
    """Raise UserError if scoring a reply failed; `log` is the file that says more."""
    if (error := first_error(folder)) is None:
        return
    if error["user"]:  # a reward of the user's own: the message names file and line
        raise RewardFailedError(error["text"])
    about = "" if error["place"] is None else f" for the reply {str(error['reply'])[:60]!r}"
    fault = f"{engine}'s reward failed{about} ({error['error']})"
    raise UserError(Path(folder) / ERRORS, None, fault, f"the log says what came before: {log}")


class RewardFailedError(UserError):
    """A UserError of the reward's, as it was worded in the engine's process."""

    def __init__(self, text: str):
        super().__init__("", None, text)


def check_complete(steps: list[Step], n_steps: int, expected: int, place) -> None:
    """Raise UserError unless each of `n_steps` steps scored `expected` replies; `place` names the engine's log."""
    if not steps:
        raise UserError(place, None, "the training ended, and no reply was scored", "the log says what it did instead")
    scored = {step.number: len(step.rollouts) for step in steps}
    for number in range(1, n_steps + 1):
        if scored.get(number, 0) < expected:
            fault = f"step {number} scored {scored.get(number, 0)} replies where {expected} were to be sampled"
            raise UserError(place, None, fault, "the log says what became of the others")
