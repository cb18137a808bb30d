"""A stand-in for vLLM's worker that answers by plain forward passes of transformers, one prompt at a time.

    python plain_worker.py JOB ANSWERS

It shares no code with the package but the contract, `vllm_worker.Job` and `Answers`.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from hidden_rule.evaluation.vllm_worker import Answers, Job


@torch.no_grad()
def answer(job: Job) -> Answers:
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=getattr(torch, job.dtype)).eval()

    def next_logits(ids):
        return model(torch.tensor([ids])).logits[0, -1].float()

    log_probs = [
        [
            number
            for path, tokens in job.branches
            for number in torch.log_softmax(next_logits([*prompt, *path])[tokens], 0).tolist()
        ]
        for prompt in job.prompts
    ]
    replies = []
    for place in job.free:
        reply: list[int] = []
        while len(reply) < job.max_new_tokens and not (reply and reply[-1] in job.stops):
            reply.append(int(next_logits([*job.prompts[place], *reply]).argmax()))
        replies.append(reply)
    n = sum(map(len, job.prompts))
    return Answers(log_probs, replies, n, len(replies), 1, {"plain": "0"})


if __name__ == "__main__":
    asked = Job(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    Path(sys.argv[2]).write_text(json.dumps(asdict(answer(asked))), encoding="utf-8")
