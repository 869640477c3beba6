"""Conformance checks for your own envs, connectors, modules and algorithms, to call in your tests."""

from rl_core.testing.check_algorithm import check_algorithm
from rl_core.testing.check_connector import check_connector
from rl_core.testing.check_env import check_env
from rl_core.testing.check_module import check_module
from rl_core.testing.trace_budget import trace_call

__all__ = ["check_algorithm", "check_connector", "check_env", "check_module", "trace_call"]
