"""Helpers of rl_core alone; no other package imports them."""
