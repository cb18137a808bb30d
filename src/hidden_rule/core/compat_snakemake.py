"""What the Snakefile uses of Snakemake's internals; written for 9.27.

- `workflow.config_settings`: the files of `--configfile` and the words of `--config`, to name the one at fault, and to
  read the words as YAML (Snakemake's own reading leaves numbers in a list or mapping as texts). To be removed when
  Snakemake says where a value came from, and reads `--config` as it reads files.
- `workflow.is_main_process`: whether this parse plans jobs or is one of them, so that cautions are printed once. To be
  removed when that has a documented name.

`workflow.basedir` is documented. Scripts use the documented `snakemake` object alone.
"""

from hidden_rule.core.versions import check_version


def config_files(workflow) -> list[str]:
    """The config files of a run, the default one first unless it is to be replaced; later ones win."""
    check_version("snakemake")
    settings = workflow.config_settings
    replaced = settings.replace_workflow_config and (settings.configfiles or settings.config_args)
    return [*([] if replaced else ["config.yaml"]), *map(str, settings.configfiles)]


def config_words(workflow) -> list[str]:
    """What `--config` is followed by on the command line, or in a profile: `key=value` each."""
    check_version("snakemake")
    return list(workflow.config_settings.config_args or [])


def plans_jobs(workflow) -> bool:
    """Whether this process plans jobs; false in the process of a job."""
    return workflow.is_main_process
