"""Extract the rules that each condition decides by from its answers."""

from hidden_rule.core.tables import LEARNT_RULES, write_table
from hidden_rule.experiment.results import Results
from hidden_rule.statistics.learnt_rules import all_learnt_rules

if "snakemake" in globals():
    from pathlib import Path

    from hidden_rule.core.logs import logged

    with logged(snakemake.log[0]):
        output = snakemake.output[0]
        results = Results(Path(output).parent, snakemake.params.config, snakemake.input)
        write_table(all_learnt_rules(results), output, LEARNT_RULES)
