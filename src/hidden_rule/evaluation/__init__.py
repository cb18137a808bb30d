"""Evaluation of models, prompts and classifiers; side effects and leakage."""
