"""Replay: a ring buffer of transitions, drawn uniformly or by priority, singly, n steps at a time or as sequences."""
