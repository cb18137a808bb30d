# Which training method teaches a language model a rule that nobody wrote down, and at what price?
#
#   ruleset ─► build_dataset ─┐ (and build_suites; fit_reference, where a condition is a plain classifier)
#   model ─► prepare_model ───┼─► train ─► evaluate ─► summarize ─► render_charts ─► write_report
#                             └─────────────┘              └─► record_run ──────────────┘
#
# `snakemake` runs this file. It reads config.yaml, then the files named by --configfile.

import atexit
import json
import os
import sys
from pathlib import Path

from hidden_rule.core.compat_snakemake import (
    cancel_jobs_when_ended,
    config_files,
    config_words,
    jobs_to_run,
    plans_jobs,
    resource_limit,
    runs_jobs_elsewhere,
)
from hidden_rule.core.errors import SETTING_FILES, UserError, one_line_errors
from hidden_rule.core.files import check_times, modified
from hidden_rule.core.paths import ROOT
from hidden_rule.core.versions import check_versions
from hidden_rule.experiment.config import read_experiment
from hidden_rule.experiment.engine_checks import check_installed
from hidden_rule.planning.gate import PlannedRun, check_run

with one_line_errors():
    here = Path(workflow.basedir).resolve()
    if ROOT not in (here, here.parent):
        raise UserError(
            ROOT, None, f"is where the package lies, not {here}", f"run make setup in {here}, and its snakemake"
        )
    check_versions()  # before a job starts
    # before Snakemake reads config.yaml: its own message names neither file nor line
    experiment = read_experiment(config_files(workflow), config_words(workflow))
    if plans_jobs(workflow):
        for line in experiment.cautions:
            print(f"warning: {line}", file=sys.stderr)


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


config = experiment.config
os.environ[SETTING_FILES] = json.dumps(experiment.files)  # for what only jobs can find wrong
with one_line_errors():
    check_installed(config)


include: "workflow/rules/experiment.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/training.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/statistics.smk"
include: "workflow/rules/cases.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        rules.prepare_model.output,
        rules.write_manifest.output,
        rules.write_manifest.input,  # every file: one that is missing is made again, though all that follows is there


# The last line of a run that came to its end names the report. Snakemake handles no success of a dry run, nor where
# nothing was to be done; a run that was asked for something else writes neither file. Its own last words come after.
FINAL = [rules.write_report.output.page, *rules.write_manifest.output]
WRITTEN = modified(*FINAL)


onstart:
    cancel_jobs_when_ended(workflow)
    with one_line_errors():
        check_run(
            config,
            PlannedRun(jobs_to_run(workflow), runs_jobs_elsewhere(workflow), resource_limit(workflow, "gpu")),
        )


onsuccess:
    if modified(*FINAL) != WRITTEN:
        atexit.register(print, f"report: {FINAL[0]}", file=sys.stderr)


with one_line_errors():
    check_times(MANIFEST, *rules.write_manifest.input, *rules.write_manifest.output)
