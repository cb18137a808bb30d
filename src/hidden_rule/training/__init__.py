"""Training methods: what they share, the trainers, checkpoints, launch."""
