"""What the Snakefile uses of Snakemake's internals; written for 9.27.

- `workflow.config_settings`: the files of `--configfile` and the words of `--config`, to name the one at fault, and to
  read the words as YAML (Snakemake's own reading leaves numbers in a list or mapping as texts). To be removed when
  Snakemake says where a value came from, and reads `--config` as it reads files.
- `workflow.is_main_process`: whether this parse plans jobs or is one of them, so that cautions are printed once. To be
  removed when that has a documented name.
- `workflow.executor_plugin.common_settings.non_local_exec`, whether jobs run elsewhere, and `run_uuid` of
  `workflow.scheduler._executor`, the name of all Slurm jobs of a run (snakemake-executor-plugin-slurm 2.8), to cancel
  them when the run is ended. At SIGTERM Snakemake submits nothing more and waits for what runs, for hours; at
  SIGHUP it ends, and its jobs go on. To be removed when it cancels them then too, and all of them at SIGINT (Ctrl-C).
- `workflow.dag.needrun_jobs`, `workflow.touch` and `workflow.global_resources`: what a run is about to do, and with
  what, to refuse it before it trains. To be removed when `onstart` is given the jobs.
- `workflow.resource_settings.cores` and again `workflow.global_resources`: the cores that jobs side by side share. To
  be removed when a rule's `threads` may depend on them.

`workflow.basedir` is documented. Scripts use the documented `snakemake` object alone.
"""

import atexit
import contextlib
import signal
import subprocess
from dataclasses import dataclass

import psutil

from hidden_rule.core.versions import check_version

ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE_S = 60  # for Slurm's answer


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


def runs_jobs_elsewhere(workflow) -> bool:
    """Whether a run submits its jobs to a cluster."""
    return workflow.executor_plugin.common_settings.non_local_exec


def cancel_jobs_when_ended(workflow) -> None:
    """Let a run that submits jobs cancel them, and end, at SIGTERM and SIGHUP as at Ctrl-C; to be called as it starts.

    A signal that is ignored, as SIGHUP under nohup, stays ignored. Snakemake cancels the jobs that it knows at that
    moment; one whose submission is under way, or whose state it is asking for, would be left. So all that have the
    run's name are cancelled again at the very end. Where no jobs are submitted nothing changes.
    """
    check_version("snakemake")
    if not runs_jobs_elsewhere(workflow):
        return
    name = getattr(workflow.scheduler._executor, "run_uuid", None)

    def end(number, frame):
        for ending in ENDS:
            signal.signal(ending, signal.SIG_IGN)  # what follows has to come to its end
        if name:
            atexit.register(cancel_named, name)
        for child in psutil.Process().children(recursive=True):  # jobs that run here, as Ctrl-C in a terminal does
            with contextlib.suppress(psutil.Error):
                child.terminate()
        raise KeyboardInterrupt

    for number in ENDS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)


def cancel_named(name: str) -> None:
    """Cancel every Slurm job of a name, as far as Slurm answers."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run(["scancel", f"--name={name}"], timeout=PATIENCE_S, check=False)


@dataclass(frozen=True)
class NeededJob:
    """A job that a run has to do."""

    rule: str
    wildcards: dict[str, str]
    threads: int


def jobs_to_run(workflow) -> list[NeededJob]:
    """The jobs of a run, as it starts; none where files are only touched."""
    check_version("snakemake")
    if workflow.touch:
        return []
    return [
        NeededJob(job.rule.name, {name: str(value) for name, value in job.wildcards.items()}, int(job.threads))
        for job in workflow.dag.needrun_jobs()
    ]


def resource_limit(workflow, name: str) -> int | None:
    """What a run may use of a resource at a time (`--resources gpu=2`), or None where it is not limited."""
    limit = workflow.global_resources.get(name)
    value = getattr(limit, "value", limit)
    return value if isinstance(value, int) else None


def shared_threads(workflow, resource: str, most: int) -> int:
    """CPU threads for each of the jobs that a limited resource lets run side by side: their share of the cores.

    `most`, where nothing is limited, and where jobs run elsewhere, on cores that this machine knows nothing of.
    """
    check_version("snakemake")
    at_a_time, cores = resource_limit(workflow, resource), workflow.resource_settings.cores
    elsewhere = workflow.executor_plugin is not None and runs_jobs_elsewhere(workflow)
    return most if elsewhere or not at_a_time or not cores else max(1, min(most, cores // at_a_time))
