"""Observation connectors."""
