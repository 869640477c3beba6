"""Connectors for rl-core: observation, action, reward and learner pieces, and presets of them."""
