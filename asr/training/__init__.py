"""Training: options, optimiser and schedule, checkpoints, validation, and the one loop that uses them."""
