"""Runs: the training loop of the command, its limits, and the folder in which everything about a run is kept."""
