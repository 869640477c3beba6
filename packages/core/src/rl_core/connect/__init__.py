"""Connectors: batch transforms between env and module, with explicit state and declared spaces."""
