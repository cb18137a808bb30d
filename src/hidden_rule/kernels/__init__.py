"""The same computation in less time: shared prefixes, attention, LoRA, norms, MLPs."""
