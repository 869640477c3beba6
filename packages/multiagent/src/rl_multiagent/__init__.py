"""Many agents in one env: policies mapped to agents, each with an algorithm of its own."""

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
from rl_multiagent.policies import add_policy, load_policy, map_agents, remove_policy, restart_policy, train_policies
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
