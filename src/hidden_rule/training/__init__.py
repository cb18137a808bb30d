"""Training: jobs, the methods' trainers and what they share, checkpoints, several processes."""
