"""Names that our side and verl's processes agree on."""

CPU = "HIDDEN_RULE_VERL_CPU"  # environment: set where there is no GPU
SEED = "HIDDEN_RULE_SEED"  # environment: the training's
CPU_ROLLOUT = "hf_cpu"  # what `verl_cpu.py` calls its rollout
