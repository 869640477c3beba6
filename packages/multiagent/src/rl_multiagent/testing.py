"""Conformance checks for your own envs of many agents, to call in your tests."""

from rl_multiagent.env.check import check_multi_agent_env
from rl_multiagent.env.check_vector import check_agents_vector_env

__all__ = ["check_agents_vector_env", "check_multi_agent_env"]
