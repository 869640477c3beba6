"""Modules for agents that learn together."""
