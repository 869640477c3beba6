"""Conformance checks for your own modules, envs and connectors, to call in your tests."""
