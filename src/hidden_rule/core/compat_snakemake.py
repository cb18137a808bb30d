"""What the Snakefile uses of Snakemake's internals; written for 9.27.

- `workflow.config_settings.configfiles`: the files of `--configfile`, to name the one at fault. To be removed when
  Snakemake says which file a value came from.
- `workflow.is_main_process`: whether this parse plans jobs or is one of them, so that cautions are printed once. To be
  removed when that has a documented name.

`workflow.basedir` is documented. Scripts use the documented `snakemake` object alone.
"""

from hidden_rule.core.versions import check_version


def config_files(workflow) -> list[str]:
    """The config files of a run, the default one first; later ones win."""
    check_version("snakemake")
    return ["config.yaml", *map(str, workflow.config_settings.configfiles)]


def plans_jobs(workflow) -> bool:
    """Whether this process plans jobs; false in the process of a job."""
    return workflow.is_main_process
