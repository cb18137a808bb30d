"""An exported adapter as an OpenAI-compatible server: `make serve EXPORT=results/laptop/export/sft-seed0 [PORT=8000]`.

It listens on this machine alone. Another HOST needs a key in the environment, HIDDEN_RULE_API_KEY, which clients then
have to give. LOG=answers.jsonl keeps every answer. ENGINE=vllm lets vLLM compute (make setup-vllm).
"""

import argparse
import sys

from hidden_rule.core.engines import ENVIRONMENTS
from hidden_rule.core.errors import UserError, one_line_errors
from hidden_rule.deployment.answer_log import AnswerLog
from hidden_rule.deployment.exported import Exported, read_export
from hidden_rule.deployment.start import start_models
from hidden_rule.deployment.web import KEY, LOCAL_HOSTS, LOOPBACK, Access, address_of, api_key, bind, port_of, run_app
from hidden_rule.evaluation.jobs import ENGINES, TRANSFORMERS, VLLM

MAKE = "make serve"


def main(words: list[str]) -> None:
    """Serve what the command line names until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog=MAKE, description=__doc__)
    parser.add_argument("export", help="the folder that make export wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", default="8000")
    parser.add_argument("--engine", default=TRANSFORMERS, help="what computes: transformers | vllm")
    parser.add_argument("--log", help="a file that each answer is appended to")
    given = parser.parse_args(words)
    if not given.export.strip():
        raise UserError(MAKE, "EXPORT", "is missing", "write EXPORT=results/laptop/export/sft-seed0")
    key, port = api_key(), port_of(given.port)
    if given.host not in LOCAL_HOSTS and key is None:
        raise UserError(MAKE, "HOST", f"{given.host} can be reached by others, and {KEY} is not set", "set it to a key")
    exported = read_export(given.export)
    check_engine(given.engine, exported)
    answers = AnswerLog(given.log) if given.log else None
    serve(exported, given.engine, bind(given.host, port), key, answers)


def check_engine(engine: str, exported: Exported) -> None:
    """Raise UserError for an engine that cannot answer for an export."""
    if engine not in ENGINES:
        raise UserError("ENGINE", None, f"{engine!r} is no engine", f"take {' or '.join(ENGINES)}")
    if engine == VLLM and (missing := ENVIRONMENTS[VLLM].fault()):
        raise UserError("ENGINE", None, *missing)
    if engine == VLLM and not exported.merged.is_dir():
        fault = "is not there: the base's weights are quantized, and vLLM is given merged ones"
        raise UserError(exported.merged, None, fault, "leave ENGINE out")


def serve(exported: Exported, engine: str, listening, key: str | None, answers: AnswerLog | None) -> None:
    """Load the policy of an export and answer on a listening socket."""
    print(f"loading {exported.name}", file=sys.stderr, flush=True)
    start_models()
    from hidden_rule.deployment.serve_app import Server, make_app
    from hidden_rule.deployment.served_policy import load_served

    host = listening.getsockname()[0]
    hosts = LOOPBACK if host in ("127.0.0.1", "::1") else ()
    server = Server(load_served(exported, engine), Access(key, hosts), answers=answers)
    print(f"serving {exported.name} at {address_of(listening)}/v1 (Ctrl-C ends it)", file=sys.stderr, flush=True)
    run_app(make_app(server), listening)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
