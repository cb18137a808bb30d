"""A trained run as a folder that serves: adapter, merged weights, model card, and the proof that they decide alike.

    make export RESULTS=results/laptop CONDITION=sft SEED=0          # -> results/laptop/export/sft-seed0/
    make export RESULTS=results/laptop CONDITION=sft SEED=0 HIDDEN=yes CASES=160 VLLM=yes

What the folder holds is said in `exported.py`. It is written beside its place and moved there once parity held
(`parity.py`): another export there stays whole until then, and after an error nothing is left.
"""

import argparse
import signal
import sys
import warnings

from hidden_rule.core.errors import UserError, one_line_errors
from hidden_rule.core.offline import restrict_network


def number_of(text: str) -> int | None:
    """`CASES` as a user wrote it; raises UserError for what is no number of cases."""
    if not text.strip():
        return None
    if not text.strip().isdecimal() or int(text) < 1:
        raise UserError("CASES", None, f"{text} is no number of cases", "leave it out for all, or give CASES=160")
    return int(text)


def switched_on(name: str, text: str) -> bool:
    """A switch as a user wrote it; raises UserError for what is neither yes nor no."""
    if text.strip().lower() not in ("", "yes", "no"):
        raise UserError(name, None, f"{text} is neither yes nor no", f"give {name}=yes, or leave it out")
    return text.strip().lower() == "yes"


def quiet() -> None:
    """No bars of libraries, and no warnings of theirs that are about their own code."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)


def main() -> None:
    parser = argparse.ArgumentParser(description="Export a trained run: adapter, merged weights, model card, parity.")
    parser.add_argument("results", help="folder of a finished run")
    parser.add_argument("--condition", default="", help="a trained condition")
    parser.add_argument("--seed", default="", help="one of its seeds")
    parser.add_argument("--hidden", default="", help="yes: name hidden rules in the model card")
    parser.add_argument("--cases", default="", help="how many evaluated cases parity is held against; by default all")
    parser.add_argument("--vllm", default="", help="yes: check the merged weights by vLLM too (make setup-vllm)")
    parser.add_argument("--gguf", default="", help="yes: write the merged weights of the embedded model as GGUF too")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing half-written is left
    with one_line_errors():
        restrict_network()
        from hidden_rule.models.startup import load_libraries

        load_libraries()
        quiet()
        from hidden_rule.deployment.artifacts import Wanted, export_run

        wanted = Wanted(
            hidden=switched_on("HIDDEN", given.hidden),
            cases=number_of(given.cases),
            vllm=switched_on("VLLM", given.vllm),
            gguf=switched_on("GGUF", given.gguf),
        )
        print(f"export: {export_run(given.results, given.condition, given.seed, wanted)}")


if __name__ == "__main__":
    main()
