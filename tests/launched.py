"""A training as a rule's script runs it, in as many processes as a file asks for: `python launched.py spec.json`.

`python launched.py spec.json 7` waits for SIGTERM at the end of step 7.
"""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from hidden_rule.core.logs import logged
from hidden_rule.training import launch


def train(spec: dict, held: int) -> None:
    """One rank's part; at the end of step `held` it waits for SIGTERM, a minute at the most."""
    import torch  # after `launch.start`, as in the scripts

    import train_grpo
    import train_sft
    from hidden_rule.training.checkpoints import Checkpoints

    class Held(Checkpoints):
        def on_step_end(self, args, state, control, **kwargs):
            until = time.monotonic() + 60 * (state.global_step == held)
            while not self.stopped and time.monotonic() < until:
                time.sleep(0.01)
            super().on_step_end(args, state, control, **kwargs)

    torch.set_num_threads(1)
    checkpoints = Held(spec["checkpoints"], "a", steps=spec["steps"], minutes=0)
    checkpoints.stop_at_sigterm()
    method = {"sft": train_sft.train_sft, "grpo": train_grpo.train_grpo}[spec["method"]]
    method(**spec["arguments"], checkpoints=checkpoints)


if __name__ == "__main__":
    spec = json.loads(Path(sys.argv[1]).read_text())
    launch.start(SimpleNamespace(log=[spec["log"]], threads=2, resources=spec["resources"]))
    with logged(spec["log"]):
        train(spec, held=int(sys.argv[2]) if len(sys.argv) > 2 else 0)
