"""A stand-in for `vllm_service` that answers by plain forward passes of transformers, one prompt at a time.

It shares no code with the package but the contract, lines of JSON.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))

from plain_worker import answer

from hidden_rule.deployment.vllm_service import Service

service = Service(**json.loads(sys.stdin.readline()))
print(json.dumps({"versions": {"plain": "0"}}), flush=True)
for line in sys.stdin:
    prompts = json.loads(line)
    if any(len(prompt) == 1 for prompt in prompts):
        print(json.dumps({"error": "ValueError: too short"}), flush=True)
    else:
        said = answer(replace(service.job(), prompts=prompts))
        print(json.dumps({"log_probs": said.log_probs}), flush=True)
