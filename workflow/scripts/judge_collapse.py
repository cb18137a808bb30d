"""Judge each training with a reward: did it give up decisions that it made before?"""

from hidden_rule.core.tables import COLLAPSE, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.statistics.collapse import judge_all


def judge_collapse(results: Results, output) -> None:
    """Write the table COLLAPSE of all trained runs that the results hold."""
    labels = results.split("train")["label"]
    truth = {label: float((labels == label).mean()) for label in results.labels}
    prompts = {name: results.settings[name]["settings"]["batch_size"] for name in results.starts}
    of_decisions = results.config["decoding"] == "structured"  # elsewhere the entropy is that of tokens
    write_table(judge_all(results.histories, truth, prompts, of_decisions), output, COLLAPSE)


if "snakemake" in globals():
    from pathlib import Path

    from hidden_rule.core.logs import logged

    with logged(snakemake.log[0]):
        output = snakemake.output[0]
        judge_collapse(Results(Path(output).parent, snakemake.params.config, snakemake.input), output)
