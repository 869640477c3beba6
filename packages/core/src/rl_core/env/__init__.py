"""Environments: making them, checking them, and turning what they say into `Step` records."""
