"""Write down how much each training was told: labels, replies, and bits of supervision at most."""

from hidden_rule.core.tables import COSTS, HISTORY, SUPERVISION, read_table, write_table
from hidden_rule.statistics.supervision import measure
from hidden_rule.task.dataset import read_split


def measure_supervision(histories, costs, train, splits, trained, settings, ruleset, output) -> None:
    """Write table SUPERVISION.

    All are paths but `trained` ([condition, seed, method] of each of the `histories` and of the `splits` that it read),
    `settings` (`condition_settings` by condition) and `ruleset` (loaded); `train` is the whole training split.
    """
    costs = read_table(costs, COSTS).filter(stage="train")
    table = measure(
        [read_table(path, HISTORY) for path in histories],
        costs,
        read_split(train, ruleset),
        [read_split(path, ruleset) for path in splits],
        trained,
        settings,
        len(ruleset.labels),
    )
    write_table(table, output, SUPERVISION)


if "snakemake" in globals():
    from hidden_rule.core.logs import logged
    from hidden_rule.task.ruleset import load_ruleset

    with logged(snakemake.log[0]):
        measure_supervision(
            histories=list(snakemake.input.histories),
            costs=snakemake.input.costs,
            train=snakemake.input.train,
            splits=list(snakemake.input.splits),
            trained=snakemake.params.trained,
            settings=snakemake.params.settings,
            ruleset=load_ruleset(snakemake.input.ruleset),
            output=snakemake.output.supervision,
        )
