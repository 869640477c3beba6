"""Algorithms, one file each: settings, prepare, loss."""
