"""Training, evaluation and data of the networks."""
