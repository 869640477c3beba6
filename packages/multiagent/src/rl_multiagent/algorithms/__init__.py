"""Algorithms for agents that learn together."""
