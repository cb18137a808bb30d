"""Sampling and scoring of replies in OpenRLHF's rollout worker, which loads this file (`--train.agent_func_path`).

Its own executor of one turn generates. Here each sample is given a seed of its own, so that a rollout depends neither
on the order of requests nor on how often the training was killed, and its tokens go to the reward door: the prompt's,
which have to be ours, and the reply's up to the one that ends it. An error is written down there and ends the training.

OpenRLHF's `reward_func` would be given texts without their borders, and its exceptions would be lost.
"""

import json
import os
from collections import Counter
from copy import deepcopy
from pathlib import Path

from openrlhf.utils.agent import SingleTurnAgentExecutor

from hidden_rule.training.engines.openrlhf_replies import ROLLOUT, Replies, sample_seed
from hidden_rule.training.engines.reward_door import opened


class AgentExecutor(SingleTurnAgentExecutor):
    """One turn: a reply, and its points."""

    def __init__(self):
        super().__init__(None)
        self.replies = Replies(**json.loads(Path(os.environ[ROLLOUT]).read_text(encoding="utf-8")))
        self.door, self.drawn = opened(), Counter()

    async def execute(self, prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images=None):
        place = int(label)
        sample, self.drawn[place] = self.drawn[place], self.drawn[place] + 1
        params = deepcopy(sampling_params)
        params.seed = sample_seed(self.replies.seed, place, sample)
        params.min_tokens = 0
        try:
            output = await super().execute(prompt, label, params, max_length, hf_tokenizer, llm_engine, images)
            ((begin, end),) = output["action_ranges"]
            tokens = list(output["observation_tokens"])
            text, n_tokens = self.replies.read(tokens[begin:end], hf_tokenizer.decode)
            output["reward"] = self.door.score(text, place, n_tokens, tokens[:begin])
        except Exception as error:
            self.door.note(error, place)
            raise
        output["scores"] = output["reward"]
        return output
