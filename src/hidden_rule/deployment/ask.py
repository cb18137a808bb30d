"""A case put to every condition of a finished run: `make ask RESULTS=results/laptop [CASE='{"revenue": 5, …}']`.

CASE is JSON, or a file of it; without it a page with a form is served on this machine. SEED names one of several seeds.
"""

import argparse
import json
import sys
from pathlib import Path

from hidden_rule.core.errors import UserError, one_line_errors
from hidden_rule.core.yaml_files import read_text
from hidden_rule.deployment.asked_cases import case_of, parse_case
from hidden_rule.deployment.finished_runs import read_run
from hidden_rule.deployment.start import start_models
from hidden_rule.deployment.web import address_of, bind, port_of, run_app
from hidden_rule.experiment.new import printable
from hidden_rule.experiment.results import Results

MAKE = "make ask"


def given_case(text: str) -> tuple[dict, str]:
    """The case's values and what errors call their source: JSON itself, or the file that it names."""
    if text.lstrip().startswith(("{", "[")):
        return parse_case(text, "CASE"), "CASE"
    if not Path(text).suffix == ".json" and not Path(text).exists():
        raise UserError(MAKE, "CASE", "is neither JSON nor a file", """write CASE='{"feature": value, …}'""")
    return parse_case(read_text(text), text), text


def main(words: list[str]) -> None:
    """Print the answers to the case that the command line gives, or serve the page."""
    parser = argparse.ArgumentParser(prog=MAKE, description=__doc__)
    parser.add_argument("results", help="the folder of a finished run")
    parser.add_argument("--seed", help="of the run; its first if not given")
    parser.add_argument("--case", help="JSON, or a file of it")
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument("--port", default="8010", help="of the page")
    given = parser.parse_args(words)
    results, seed = read_run(given.results, given.seed)
    if given.case:
        values, source = given_case(given.case)
        print_answers(results, seed, case_of(values, results.ruleset, source), given.json)
        return
    serve_page(results, seed, bind("127.0.0.1", port_of(given.port)))


def load_panel(results: Results, seed: int, conditions: list[str] | None = None):
    """The panel of a run, its libraries loaded on a GPU of our own where there is one."""
    start_models()
    from hidden_rule.deployment.panel import Panel

    return Panel(results, seed, conditions)


def print_answers(results: Results, seed: int, case, as_json: bool) -> None:
    """Ask every condition, and print a table, or JSON."""
    panel = load_panel(results, seed)
    from hidden_rule.deployment.ask_answers import ask, rule_sentence, table

    asked = ask(panel, case)
    if as_json:
        print(json.dumps(asked.as_json(), indent=2))
        return
    rule = [rule_sentence(asked.rule), ""] if asked.rule else []
    for line in [*rule, *table(asked), *asked.notes]:
        print(printable(line))


def serve_page(results: Results, seed: int, listening) -> None:
    """Serve the page until Ctrl-C."""
    print(f"loading {len(results.conditions)} conditions of {results.layout.folder}", file=sys.stderr)
    panel = load_panel(results, seed)
    from hidden_rule.deployment.ask_page import AskPage, make_page

    print(f"ask at {address_of(listening)} (Ctrl-C ends it)", file=sys.stderr, flush=True)
    run_app(make_page(AskPage(panel)), listening)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
