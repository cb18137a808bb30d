"""Cases put to a model, a prompt or a classifier; side effects and leakage."""
