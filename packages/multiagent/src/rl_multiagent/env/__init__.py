"""Envs with many agents: what they are, their vectorised forms, and adapters of other libraries' games."""
