"""Learner connectors."""
