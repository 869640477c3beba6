"""Sampling with many agents: each policy's agent slots, their columns, and the runner."""
