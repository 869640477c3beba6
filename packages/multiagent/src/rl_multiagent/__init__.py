"""Many agents in one env: policies mapped to agents, each with an algorithm of its own."""

from typing import TYPE_CHECKING

from rl_core.lazy import lazy_names

if TYPE_CHECKING:
    from rl_multiagent.algorithms.coma import COMAConfig
    from rl_multiagent.algorithms.mappo import MAPPOConfig
    from rl_multiagent.algorithms.qmix import QMIXConfig, VDNConfig
    from rl_multiagent.env.agent_env import AgentID, MultiAgentEnv
    from rl_multiagent.env.clone import clone_agents
    from rl_multiagent.env.groups import GroupedAgents
    from rl_multiagent.env.identify import IdentifiedAgents
    from rl_multiagent.env.open_spiel import OpenSpielEnv
    from rl_multiagent.env.pettingzoo import AsParallelEnv, ParallelPettingZooEnv, PettingZooEnv
    from rl_multiagent.env.vector import AgentsVectorEnv
    from rl_multiagent.extension import MultiAgent, PolicySpec
    from rl_multiagent.independent import independent_agents
    from rl_multiagent.mapping import EpisodeInfo
    from rl_multiagent.member import member_policy
    from rl_multiagent.module.agent_heads import AgentHeads
    from rl_multiagent.policies import (
        add_policy,
        load_policy,
        map_agents,
        remove_policy,
        restart_policy,
        train_policies,
    )
    from rl_multiagent.sampling.recorder import AgentEpisode

__all__ = [
    "AgentEpisode",
    "AgentHeads",
    "AgentID",
    "AgentsVectorEnv",
    "AsParallelEnv",
    "COMAConfig",
    "EpisodeInfo",
    "GroupedAgents",
    "IdentifiedAgents",
    "MAPPOConfig",
    "MultiAgent",
    "MultiAgentEnv",
    "OpenSpielEnv",
    "ParallelPettingZooEnv",
    "PettingZooEnv",
    "PolicySpec",
    "QMIXConfig",
    "VDNConfig",
    "add_policy",
    "clone_agents",
    "independent_agents",
    "load_policy",
    "map_agents",
    "member_policy",
    "remove_policy",
    "restart_policy",
    "train_policies",
]

_MODULES = {
    "AgentEpisode": "sampling.recorder",
    "AgentHeads": "module.agent_heads",
    "AgentID": "env.agent_env",
    "AgentsVectorEnv": "env.vector",
    "AsParallelEnv": "env.pettingzoo",
    "COMAConfig": "algorithms.coma",
    "EpisodeInfo": "mapping",
    "GroupedAgents": "env.groups",
    "IdentifiedAgents": "env.identify",
    "MAPPOConfig": "algorithms.mappo",
    "MultiAgent": "extension",
    "MultiAgentEnv": "env.agent_env",
    "OpenSpielEnv": "env.open_spiel",
    "ParallelPettingZooEnv": "env.pettingzoo",
    "PettingZooEnv": "env.pettingzoo",
    "PolicySpec": "extension",
    "QMIXConfig": "algorithms.qmix",
    "VDNConfig": "algorithms.qmix",
    "add_policy": "policies",
    "clone_agents": "env.clone",
    "independent_agents": "independent",
    "load_policy": "policies",
    "map_agents": "policies",
    "member_policy": "member",
    "remove_policy": "policies",
    "restart_policy": "policies",
    "train_policies": "policies",
}
"""Where each name is imported from on first use: a process that only steps an env needs no torch."""


if not TYPE_CHECKING:  # a checker that saw this function would take every misspelt name for a good one
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
