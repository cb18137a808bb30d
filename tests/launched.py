"""A training as a rule's script runs it, in as many processes as a file asks for: `python launched.py spec.json`."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.append(str(Path(__file__).resolve().parent.parent / "workflow" / "scripts"))

from hidden_rule import launch
from hidden_rule.logs import logged


def train(spec: dict) -> None:
    """One rank's part."""
    import torch  # after `launch.start`, as in the scripts

    import train_grpo
    import train_sft
    from hidden_rule.checkpoints import Checkpoints

    torch.set_num_threads(1)
    checkpoints = Checkpoints(spec["checkpoints"], "a", steps=spec["steps"], minutes=0)
    checkpoints.stop_at_sigterm()
    method = {"sft": train_sft.train_sft, "grpo": train_grpo.train_grpo}[spec["method"]]
    method(**spec["arguments"], checkpoints=checkpoints)


if __name__ == "__main__":
    spec = json.loads(Path(sys.argv[1]).read_text())
    launch.start(SimpleNamespace(log=[spec["log"]], threads=2, resources=spec["resources"]))
    with logged(spec["log"]):
        train(spec)
