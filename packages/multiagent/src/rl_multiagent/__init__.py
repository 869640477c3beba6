"""Many agents in one env: policies mapped to agents, each with an algorithm of its own."""

from rl_multiagent.env.agent_env import AgentID, MultiAgentEnv
from rl_multiagent.extension import MultiAgent, PolicySpec
from rl_multiagent.mapping import EpisodeInfo

__all__ = ["AgentID", "EpisodeInfo", "MultiAgent", "MultiAgentEnv", "PolicySpec"]
