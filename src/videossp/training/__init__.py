"""Training: plan, loop, checkpoints, run folder."""
