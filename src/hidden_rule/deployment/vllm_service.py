"""A model that vLLM keeps loaded, asked as questions come: a program of its own, in vLLM's environment.

    .engines/vllm/bin/python -m hidden_rule.deployment.vllm_service

It is spoken to in lines of JSON. The first one of its input is a `Service` as a dictionary, which is answered by
`{"versions": {…}}` once the model is loaded; each one after it is a list of prompts (token ids), answered by
`{"log_probs": [[…], …]}` as `vllm_worker.Answers` has them, or by `{"error": "…"}`. It ends with its input. What vLLM
prints goes to the standard error.

Imports of the package only what needs the standard library alone.
"""

import json
import os
import sys
from dataclasses import dataclass

from hidden_rule.evaluation.vllm_worker import (
    Job,
    Respondent,
    end_with_parent,
    make_engine,
    prepare_environment,
    versions,
)


@dataclass(frozen=True)
class Service:
    """What is asked of a model again and again."""

    model: str  # a folder
    dtype: str  # bfloat16 | float16 | float32
    branches: list[list[list[int]]]  # path and allowed tokens of each branch
    batch_size: int  # sequences at a time
    context: int | None  # tokens of prompt and reply; None: what the model allows

    def job(self) -> Job:
        """The job of it that has no prompts yet."""
        return Job(self.model, self.dtype, [], self.branches, [], [], 1, self.batch_size)


def main() -> None:
    end_with_parent()
    prepare_environment()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # vLLM prints on the standard output
        service = Service(**json.loads(sys.stdin.readline()))
        respondent = Respondent(make_engine(service.job(), service.context), progress=False)
        print(json.dumps({"versions": versions()}), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(scored(respondent, service, line)), file=answers, flush=True)


def scored(respondent: Respondent, service: Service, line: str) -> dict[str, object]:
    """The answer to a line of prompts."""
    try:
        return {"log_probs": respondent.log_probs(json.loads(line), service.branches)}
    except Exception as error:  # whoever asked is told, and the service goes on
        return {"error": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
