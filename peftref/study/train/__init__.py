"""Tasks, data, the training loop and its metrics."""
