"""The config of an algorithm: typed sections, checked when set, stored as JSON."""
