"""Throughput, start-up and time to learn, next to the peers in the same run; only this package may import them."""
