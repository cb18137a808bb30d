"""verl's door to the reward: a reward manager that reads a reply's tokens as evaluation does.

That is up to the token that ends it, where verl's own managers hand over text alone; and the prompt's tokens are told.
Imported in verl's environment alone.
"""

import asyncio
import functools
import json
import os
from pathlib import Path

from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

from hidden_rule.training.engines.openrlhf_replies import ROLLOUT, Replies
from hidden_rule.training.engines.reward_door import opened


class HiddenRuleRewards(RewardManagerBase):
    """Scores a reply through the reward door; never raises."""

    def __init__(self, config, tokenizer, compute_score, **of_a_reward_model):
        super().__init__(config, tokenizer, compute_score)

    @functools.cached_property
    def replies(self) -> Replies:
        return Replies(**json.loads(Path(os.environ[ROLLOUT]).read_text(encoding="utf-8")))

    async def run_single(self, data) -> dict:
        """verl's call for one reply: its points."""
        return await asyncio.to_thread(self.scored, data[-1:][0])

    def scored(self, item) -> dict:
        door = opened()
        try:
            n_prompt = item.batch["prompts"].size(-1)
            mask = item.batch["attention_mask"].bool()
            prompt_ids = item.batch["prompts"][mask[:n_prompt]].tolist()
            ids = item.batch["responses"][mask[n_prompt:]].tolist()
            place = int(item.non_tensor_batch["extra_info"]["index"])
            reply, n_tokens = self.replies.read(ids, self.tokenizer.decode)
        except Exception as error:  # of a version of verl that hands over something else
            door.note(error)
            return {"reward_score": 0.0, "reward_extra_info": {"acc": 0.0}}
        points = door.score(reply, place, n_tokens, prompt_ids)
        return {"reward_score": points, "reward_extra_info": {"acc": points}}
