"""Check your own env in your tests: `check_env(MyEnv())` raises an `EnvError` that lists what is wrong."""

from rl_core.env.check import check_env

__all__ = ["check_env"]
