"""Reinforcement learning in process: envs, connectors, modules, algorithms, checkpoints, and the `rl` command."""

from typing import TYPE_CHECKING

from rl_core.lazy import lazy_names

if TYPE_CHECKING:
    from rl_core.algorithm.algorithm import Algorithm
    from rl_core.algorithm.callbacks import Callbacks
    from rl_core.algorithm.components import Components, Extension
    from rl_core.algorithm.config import AlgorithmConfig
    from rl_core.algorithm.sinks import Sink
    from rl_core.algorithms.a2c import A2CConfig
    from rl_core.algorithms.appo import APPOConfig
    from rl_core.algorithms.dqn import DQNConfig
    from rl_core.algorithms.impala import IMPALAConfig
    from rl_core.algorithms.ppo import PPOConfig
    from rl_core.algorithms.sac import SACConfig
    from rl_core.algorithms.td3 import TD3Config
    from rl_core.algorithms.tqc import TQCConfig
    from rl_core.connect.protocol import ActionConnector, ConnectorState, ObsConnector
    from rl_core.learning.learner import Learner, Objective
    from rl_core.learning.learner_connector import LearnerConnector, Trained
    from rl_core.learning.replay_learner import ReplayObjective
    from rl_core.learning.replay_settings import ReplayBufferSettings
    from rl_core.metrics import MetricsLogger, log_value
    from rl_core.migrate import read_rllib_module, read_rllib_policy
    from rl_core.module.distribution_base import Distribution
    from rl_core.module.rl_module import RLModule
    from rl_core.module.settings import ModelSettings
    from rl_core.onnx import OnnxPolicy, export_onnx
    from rl_core.policy import Policy
    from rl_core.records import Batch, Decision, Rollout, Step, Weights
    from rl_core.runs.mlflow_sink import MLflowSink
    from rl_core.runs.sinks import CsvSink, JsonLinesSink, TensorBoardSink
    from rl_core.runs.wandb_sink import WandbSink
    from rl_core.runtime.session import start_ray
    from rl_core.runtime.tune import tune_checkpoint, tune_resources, tune_trainable
    from rl_core.sampling.env_runner import EnvRunner
    from rl_core.sampling.episodes import Episode

__all__ = [
    "A2CConfig",
    "APPOConfig",
    "ActionConnector",
    "Algorithm",
    "AlgorithmConfig",
    "Batch",
    "Callbacks",
    "Components",
    "ConnectorState",
    "CsvSink",
    "DQNConfig",
    "Decision",
    "Distribution",
    "EnvRunner",
    "Episode",
    "Extension",
    "IMPALAConfig",
    "JsonLinesSink",
    "Learner",
    "LearnerConnector",
    "MLflowSink",
    "MetricsLogger",
    "ModelSettings",
    "Objective",
    "ObsConnector",
    "OnnxPolicy",
    "PPOConfig",
    "Policy",
    "RLModule",
    "ReplayBufferSettings",
    "ReplayObjective",
    "Rollout",
    "SACConfig",
    "Sink",
    "Step",
    "TD3Config",
    "TQCConfig",
    "TensorBoardSink",
    "Trained",
    "WandbSink",
    "Weights",
    "export_onnx",
    "log_value",
    "read_rllib_module",
    "read_rllib_policy",
    "start_ray",
    "tune_checkpoint",
    "tune_resources",
    "tune_trainable",
]

_MODULES = {
    "log_value": "metrics",
    "MLflowSink": "runs.mlflow_sink",
    "WandbSink": "runs.wandb_sink",
    "TensorBoardSink": "runs.sinks",
    "JsonLinesSink": "runs.sinks",
    "CsvSink": "runs.sinks",
    "Sink": "algorithm.sinks",
    "export_onnx": "onnx",
    "read_rllib_policy": "migrate",
    "read_rllib_module": "migrate",
    "OnnxPolicy": "onnx",
    "Distribution": "module.distribution_base",
    "ReplayBufferSettings": "learning.replay_settings",
    "ReplayObjective": "learning.replay_learner",
    "TQCConfig": "algorithms.tqc",
    "TD3Config": "algorithms.td3",
    "SACConfig": "algorithms.sac",
    "DQNConfig": "algorithms.dqn",
    "A2CConfig": "algorithms.a2c",
    "APPOConfig": "algorithms.appo",
    "IMPALAConfig": "algorithms.impala",
    "ActionConnector": "connect.protocol",
    "Algorithm": "algorithm.algorithm",
    "AlgorithmConfig": "algorithm.config",
    "Batch": "records",
    "Callbacks": "algorithm.callbacks",
    "Components": "algorithm.components",
    "ConnectorState": "connect.protocol",
    "Decision": "records",
    "EnvRunner": "sampling.env_runner",
    "Episode": "sampling.episodes",
    "Extension": "algorithm.components",
    "Learner": "learning.learner",
    "LearnerConnector": "learning.learner_connector",
    "Trained": "learning.learner_connector",
    "MetricsLogger": "metrics",
    "ModelSettings": "module.settings",
    "Objective": "learning.learner",
    "ObsConnector": "connect.protocol",
    "PPOConfig": "algorithms.ppo",
    "Policy": "policy",
    "RLModule": "module.rl_module",
    "Rollout": "records",
    "Step": "records",
    "Weights": "records",
    "start_ray": "runtime.session",
    "tune_checkpoint": "runtime.tune",
    "tune_resources": "runtime.tune",
    "tune_trainable": "runtime.tune",
}
"""Where each name is imported from on first use: `rl --help` needs neither torch nor gymnasium."""


if not TYPE_CHECKING:  # a checker that saw this function would take every misspelt name for a good one
    __getattr__, __dir__ = lazy_names(__name__, _MODULES)
