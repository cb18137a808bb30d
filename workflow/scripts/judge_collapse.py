"""Judge each training by reward: did it give up decisions that it made before?"""

from hidden_rule.core.tables import COLLAPSE, HISTORY, read_table, write_table
from hidden_rule.experiment.runs import Run
from hidden_rule.statistics.collapse import judge_all
from hidden_rule.task.dataset import read_split


def judge_collapse(histories, trained, train, ruleset, prompts, of_decisions, output) -> None:
    """Write the table COLLAPSE.

    histories, train, output: paths; trained: [condition, seed, method] of each history; ruleset: loaded; prompts: of an
    optimizer step of each condition; of_decisions: the histories' entropy is that of the policy over the decisions.
    """
    labels = read_split(train, ruleset)["label"]
    truth = {label: float((labels == label).mean()) for label in ruleset.labels}
    runs = {Run(*run): read_table(path, HISTORY) for path, run in zip(histories, trained, strict=True)}
    table = judge_all(runs, truth, prompts, of_decisions)
    write_table(table, output, COLLAPSE)


if "snakemake" in globals():
    from hidden_rule.core.logs import logged
    from hidden_rule.task.ruleset import load_ruleset

    with logged(snakemake.log[0]):
        judge_collapse(
            histories=list(snakemake.input.histories),
            trained=snakemake.params.trained,
            train=snakemake.input.train,
            ruleset=load_ruleset(snakemake.input.ruleset),
            prompts=snakemake.params.prompts,
            of_decisions=snakemake.params.of_decisions,
            output=snakemake.output[0],
        )
