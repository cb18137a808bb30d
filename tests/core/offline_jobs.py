"""Jobs as rules' scripts run them, in a process that records every attempt to reach a network and refuses it.

`python offline_jobs.py FOLDER`: FOLDER holds `jobs.json`; `attempts.json` is written there.
"""

import json
import os
import socket
import sys
from pathlib import Path

attempts: list[str] = []
LOCAL = ("127.0.0.1", "localhost", "::1")


def refuse(host) -> None:
    if host not in LOCAL:
        attempts.append(str(host))
        raise OSError(f"no network: {host}")


def block() -> None:
    """Let sockets reach this machine alone."""
    connect, resolve = socket.socket.connect, socket.getaddrinfo

    def only_local(self, address):
        if isinstance(address, tuple):
            refuse(address[0])
        return connect(self, address)

    def resolve_local(host, *arguments, **options):
        refuse(host)
        return resolve(host, *arguments, **options)

    socket.socket.connect, socket.socket.connect_ex = only_local, only_local
    socket.getaddrinfo = resolve_local


def run(folder: Path) -> None:
    """Both methods with checkpoints, one from the other's adapter; evaluation, sampling, side effects."""
    from hidden_rule.core.logs import logged
    from hidden_rule.models.startup import load_libraries

    with logged(folder / "log"):
        load_libraries()
        from hidden_rule.evaluation.evaluate import evaluate
        from hidden_rule.evaluation.jobs import EvaluationJob, EvaluationOutput, SamplingJob, SideEffectsJob
        from hidden_rule.evaluation.measure_side_effects import measure_side_effects
        from hidden_rule.evaluation.sample_start import sample_start
        from hidden_rule.training.grpo import train_grpo
        from hidden_rule.training.job import TrainingJob
        from hidden_rule.training.sft import train_sft

        written = json.loads((folder / "jobs.json").read_text())
        jobs = {name: TrainingJob.from_json(values) for name, values in written["trainings"].items()}
        train_sft(jobs["sft"])
        train_grpo(jobs["sft_then_grpo"])
        train_grpo(jobs["free"])
        job = jobs["sft_then_grpo"]
        known = {"base": job.base, "adapter": job.output.adapter, "ruleset": job.data.ruleset}
        settings = {"structured": ["validation"], "free": ["validation"], "batch_size": 8, "max_new_tokens": 2}
        output = EvaluationOutput(folder / "predictions.parquet", folder / "cost.parquet")
        splits = {"validation": job.data.validation}
        evaluate(EvaluationJob("sft_then_grpo", 0, splits=splits, settings=settings, output=output, **known))
        sampled = {"group_size": 2, "temperature": 1.0, "max_new_tokens": 2}
        sample_start(
            SamplingJob(0, split=job.data.validation, settings=sampled, applications=4, replies=2, batch_size=8,
                        output=folder / "replies.parquet", **known)
        )  # fmt: skip
        measure_side_effects(
            SideEffectsJob("sft_then_grpo", 0, texts=Path(written["texts"]), batch_size=64,
                           effects=folder / "effects.parquet", leaks=folder / "leaks.parquet", **known)
        )  # fmt: skip


if __name__ == "__main__":
    block()
    try:
        run(Path(sys.argv[1]))
    finally:
        environment = {name: value for name, value in os.environ.items() if name.startswith(("HF_", "TRANSFORMERS_"))}
        text = json.dumps({"attempts": attempts, "environment": environment})
        (Path(sys.argv[1]) / "attempts.json").write_text(text)
