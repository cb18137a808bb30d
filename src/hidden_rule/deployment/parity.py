"""Whether an exported artifact decides as the evaluated adapter did, computed afresh by plain libraries.

Each artifact is loaded by a process of its own (`plain_scores.py`: transformers and PEFT, none of our code), which
makes the prompts by the artifact's own tokenizer and chat template. Compared are, case by case, the probabilities p of
the valid replies and the most probable reply.

    parity holds  ⇔  prompts have the same tokens,  max |Δp| ≤ bound,
                     and every case with another label is a near-tie: its two highest evaluated p differ by < bound

Bounds allow for rounding: logits between 32 and 64 have a spacing of 2⁻² in bfloat16, 2⁻⁵ in float16 and 2⁻¹⁸ in
float32, and |Δp| ≤ |Δ log-odds| / 4. Three spacings are some 0.2 and 0.03; in float32 sums in another order differ by
more than that. Of the types of the evaluation and of the artifact the coarser counts.
"""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from hidden_rule.core.engines import ENVIRONMENTS
from hidden_rule.core.errors import UserError
from hidden_rule.core.files import scratch_folder
from hidden_rule.deployment import plain_scores
from hidden_rule.deployment.exported import ADAPTER, GGUF, GGUF_FILE, MERGED
from hidden_rule.evaluation import vllm_worker
from hidden_rule.evaluation.jobs import VLLM
from hidden_rule.evaluation.vllm_answers import branches_of, run_worker
from hidden_rule.models.hardware import default_device
from hidden_rule.models.trie import LabelTrie

BOUNDS = {"bfloat16": 0.2, "float16": 0.03, "float32": 0.002}  # of |Δp|, by type
REMEDY = "nothing was exported; set model.dtype: float32 and run again if rounding is the cause"
LISTED = 20  # cases with another label that the record lists


@dataclass(frozen=True)
class Questions:
    """What artifacts are asked, and what the evaluation answered."""

    ids: list[int]  # of the cases
    conversations: list[list[dict]]
    prompt_tokens: list[list[int]]  # as the evaluation made them
    labels: tuple[str, ...]
    replies: list[list[int]]  # token ids, in the order of labels
    expected: np.ndarray  # (N, L): evaluated probabilities
    dtype: str  # of the evaluation
    batch_size: int


@dataclass(frozen=True)
class Answered:
    """What an artifact answered."""

    probabilities: np.ndarray  # (N, L)
    prompt_tokens: list[list[int]]
    packages: dict[str, str]
    device: str
    wall_s: float


@dataclass(frozen=True)
class Check:
    """An artifact's answers beside the evaluated ones, as `parity.json` holds it."""

    artifact: str
    dtype: str  # in which it was computed
    by: dict[str, str]  # libraries and their versions
    device: str
    n: int
    max_difference: float  # of a probability
    mean_difference: float
    bound: float
    n_other_labels: int
    other_labels: list[dict]  # the first of them: application_id, evaluated, answered, margin
    n_near_ties: int  # evaluated cases within the bound of a tie
    same_prompts: bool
    holds: bool
    wall_s: float


def ask(artifact: str, dtype: str, questions: Questions, folder: Path) -> Answered:
    """An artifact's answers, by a process that starts in the export's folder; raises UserError where it fails."""
    job = {
        "folder": artifact,
        "adapter": artifact == ADAPTER,
        "gguf": GGUF_FILE if artifact == GGUF else None,
        "dtype": dtype,
        "conversations": questions.conversations,
        "replies": questions.replies,
        "batch_size": questions.batch_size,
        "threads": torch.get_num_threads(),
    }
    asked, answers = folder / ".questions.json", folder / ".answers.json"
    asked.write_text(json.dumps(job), encoding="utf-8")
    begun = time.perf_counter()
    try:
        command = [sys.executable, "-I", plain_scores.__file__, asked.name, answers.name]
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True, errors="replace"
        )
        if done.returncode != 0:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            how = f"killed by signal {-done.returncode}" if done.returncode < 0 else (said or ["no message"])[-1][:300]
            raise UserError(artifact, None, f"cannot be loaded and asked by plain libraries ({how})", REMEDY)
        found = json.loads(answers.read_text(encoding="utf-8"))
    finally:
        asked.unlink(missing_ok=True)
        answers.unlink(missing_ok=True)
    wall_s = round(time.perf_counter() - begun, 1)
    probabilities = np.array(found["probabilities"], dtype=np.float64)
    return Answered(probabilities, found["prompt_tokens"], found["packages"], found["device"], wall_s)


def compare(artifact: str, dtype: str, questions: Questions, answered: Answered) -> Check:
    """The check of an artifact's answers. Margins are of evaluated probabilities: the highest minus the next."""
    expected, found = questions.expected, answered.probabilities
    bound = max(BOUNDS[dtype], BOUNDS[questions.dtype])
    differences = np.abs(found - expected)
    ordered = np.sort(expected, axis=1)
    margins = ordered[:, -1] - ordered[:, -2]
    before, after = expected.argmax(1), found.argmax(1)
    others = np.flatnonzero(before != after)
    listed = [
        {
            "application_id": questions.ids[i],
            "evaluated": questions.labels[before[i]],
            "answered": questions.labels[after[i]],
            "margin": round(float(margins[i]), 6),
        }
        for i in sorted(others, key=lambda i: -margins[i])[:LISTED]
    ]
    same_prompts = answered.prompt_tokens == questions.prompt_tokens
    largest = float(differences.max())
    return Check(
        artifact=artifact,
        dtype=dtype,
        by=answered.packages,
        device=answered.device,
        n=len(expected),
        max_difference=largest,
        mean_difference=float(differences.mean()),
        bound=bound,
        n_other_labels=len(others),
        other_labels=listed,
        n_near_ties=int((margins < bound).sum()),
        same_prompts=same_prompts,
        # a comparison with nan is false
        holds=same_prompts and largest <= bound and bool((margins[others] < bound).all()),
        wall_s=answered.wall_s,
    )


def fault_of(check: Check) -> str | None:
    """Why parity does not hold, or None."""
    if check.holds:
        return None
    named = f"loaded afresh and computed in {check.dtype}"
    if not check.same_prompts:
        return f"{named}, its tokenizer makes other prompts than were evaluated"
    far = [case for case in check.other_labels if case["margin"] >= check.bound]
    labels = (
        f"; another label in {check.n_other_labels} of {check.n:,} cases, as application_id {far[0]['application_id']} "
        f"({far[0]['evaluated']} was evaluated, {far[0]['answered']} answered)"
        if far
        else ""
    )
    return (
        f"{named}, it does not decide as was evaluated: probabilities differ by up to {check.max_difference:.3g} "
        f"(bound {check.bound:g}){labels}"
    )


def checks(questions: Questions, folder: Path, has_merged: bool, say=print) -> list[Check]:
    """The check of each artifact in an export's folder; raises UserError at the first that fails."""
    merged = [(MERGED, dtype) for dtype in dict.fromkeys((questions.dtype, "float32", "bfloat16"))]
    merged += [(GGUF, "bfloat16")] if (folder / GGUF).exists() else []
    found = []
    for artifact, dtype in [(ADAPTER, questions.dtype), *(merged if has_merged else [])]:
        check = compare(artifact, dtype, questions, ask(artifact, dtype, questions, folder))
        if fault := fault_of(check):
            raise UserError(artifact, None, fault, REMEDY)
        say(sentence(check))
        found.append(check)
    return found


def checked_by_vllm(questions: Questions, folder: Path, say=print) -> Check:
    """The check of the merged weights by vLLM of .engines/vllm; raises UserError without it, and where it fails."""
    if missing := ENVIRONMENTS[VLLM].fault():
        raise UserError("VLLM", None, *missing)
    trie = LabelTrie(questions.replies)
    job = vllm_worker.Job(
        model=str((folder / MERGED).resolve()),
        dtype=questions.dtype,
        prompts=questions.prompt_tokens,
        branches=branches_of(trie),
        free=[],
        stops=[reply[-1] for reply in questions.replies],
        max_new_tokens=1,
        batch_size=questions.batch_size,
    )
    begun = time.perf_counter()
    with scratch_folder(folder / VLLM) as scratch:
        scratch.mkdir()
        found = run_worker(job, scratch, None)
    answered = Answered(
        probabilities=trie.reply_log_probs(torch.tensor(found.log_probs)).double().exp().numpy(),
        prompt_tokens=questions.prompt_tokens,
        packages=found.versions,
        device=default_device().type,
        wall_s=round(time.perf_counter() - begun, 1),
    )
    check = compare(MERGED, questions.dtype, questions, answered)
    if fault := fault_of(check):
        raise UserError(f"{MERGED}, by vLLM", None, fault, REMEDY)
    say(f"vLLM: {sentence(check)}")
    return check


def sentence(check: Check) -> str:
    """What a check found, on one line."""
    labels = "all labels equal" if not check.n_other_labels else f"{check.n_other_labels} near-tied labels differ"
    return (
        f"{check.artifact} in {check.dtype}: {labels} in {check.n:,} cases, max |Δp| {check.max_difference:.2g} "
        f"(bound {check.bound:g}), {check.wall_s:g} s"
    )


def record(found: list[Check], questions: Questions, suite: str) -> dict:
    """The content of `parity.json`."""
    return {
        "suite": suite,
        "n": len(questions.ids),
        "evaluated_in": questions.dtype,
        "near_tie": "the two highest evaluated probabilities differ by less than the bound",
        "checks": [asdict(check) for check in found],
    }
