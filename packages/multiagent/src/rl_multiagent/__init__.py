"""Many agents in one env: policies mapped to agents, each with an algorithm of its own."""

from rl_multiagent.env.agent_env import AgentID, MultiAgentEnv
from rl_multiagent.extension import MultiAgent, PolicySpec
from rl_multiagent.mapping import EpisodeInfo
from rl_multiagent.policies import add_policy, map_agents, remove_policy, train_policies

__all__ = [
    "AgentID",
    "EpisodeInfo",
    "MultiAgent",
    "MultiAgentEnv",
    "PolicySpec",
    "add_policy",
    "map_agents",
    "remove_policy",
    "train_policies",
]
