"""Reward connectors."""
