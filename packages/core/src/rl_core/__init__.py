"""Reinforcement learning in process: envs, connectors, modules, learners, PPO, checkpoints, and the `rl` command."""

from rl_core.algorithm.algorithm import Algorithm
from rl_core.algorithm.callbacks import Callbacks
from rl_core.algorithm.components import Components, Extension
from rl_core.algorithm.config import AlgorithmConfig
from rl_core.algorithms.ppo import PPOConfig
from rl_core.connect.protocol import ActionConnector, ConnectorState, ObsConnector
from rl_core.learning.learner import Learner, Objective
from rl_core.metrics import MetricsLogger
from rl_core.module.rl_module import RLModule
from rl_core.module.settings import ModelSettings
from rl_core.policy import Policy
from rl_core.records import Batch, Decision, Rollout, Step, Weights
from rl_core.sampling.env_runner import EnvRunner
from rl_core.sampling.episodes import Episode

__all__ = [
    "ActionConnector",
    "Algorithm",
    "AlgorithmConfig",
    "Batch",
    "Callbacks",
    "Components",
    "ConnectorState",
    "Decision",
    "EnvRunner",
    "Episode",
    "Extension",
    "Learner",
    "MetricsLogger",
    "ModelSettings",
    "Objective",
    "ObsConnector",
    "PPOConfig",
    "Policy",
    "RLModule",
    "Rollout",
    "Step",
    "Weights",
]
