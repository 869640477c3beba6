"""The two protocols an algorithm is made of, their in-process forms, and how an extension replaces them.

An env runner samples, a learner updates. `Algorithm` moves what one returns to the other without looking into it, so an
extension may replace both together and exchange records of its own, such as one rollout per module.
"""

from __future__ import annotations

import functools
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import torch
from gymnasium.spaces import Box, Space
from torch import nn

from rl_core.algorithm.callbacks import CallbackList
from rl_core.config.codec import Storable
from rl_core.config.settings import LearnerSettings
from rl_core.connect.chain import ActionChain, ObsChain
from rl_core.connect.required import ActionToEnv
from rl_core.env.check import check_env
from rl_core.env.make import make_single_env, make_vector_env
from rl_core.env.protocol import VectorEnv
from rl_core.env.restart import RestartingEnv
from rl_core.env.spaces import leaf_spaces
from rl_core.errors import ConfigError
from rl_core.learning.learner import Metrics, ModuleLearner
from rl_core.learning.learner_chain import LearnerChain
from rl_core.learning.optimizer import optimizer_factory
from rl_core.metrics import MetricsLogger
from rl_core.policy import Policy, with_required_connector
from rl_core.rng import stream_seed
from rl_core.sampling.env_runner import EnvRunner
from rl_core.sampling.protocol import Runner, SingleRunner

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig

Purpose = Literal["sampling", "evaluation"]


class Updater(Protocol):
    """What an algorithm asks of a learner."""

    @property
    def learners(self) -> Mapping[str, ModuleLearner]:
        """The learner of each trained module, by id: what a checkpoint holds under `learners/`.

        A module that no policy acts with, such as a critic of several, has an id of its own.
        """

    def update(self, rollout: Any) -> Metrics:
        """Learn from what a runner sampled."""

    def weights(self) -> Any:
        """Publish the newest weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What the factories of components may need besides the config."""

    callbacks: CallbackList
    metrics: MetricsLogger
    runner: tuple[int, ...] = ()
    """Which remote runner is built: its number, and how often it was built before; () in the algorithm's process."""

    def stream_seed(self, config: AlgorithmConfig, *name: str) -> int:
        """Derive the seed of a stream of random numbers that this runner has of its own."""
        return stream_seed(config.debugging.settings.seed, *name, *self.runner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Factories of the parts of an algorithm; an extension replaces some of them."""

    env_runner: Callable[[AlgorithmConfig, Purpose, Context], SingleRunner]
    """Makes the runner for sampling, and the one for evaluation when that is first asked for."""
    learner: Callable[[AlgorithmConfig, Runner], Updater]
    """Makes the learner for the policies of the sampling runner."""


class Extension(Storable, ABC):
    """Plugs into a config with `config.use(extension)`. Derive a frozen dataclass; its fields are its settings."""

    __slots__ = ()

    @abstractmethod
    def components(self, components: Components) -> Components:
        """Return the components with some factories replaced; the given ones may be wrapped."""


def make_env_runner(config: AlgorithmConfig, purpose: Purpose, context: Context) -> EnvRunner:
    """Build the in-process env runner."""
    env = make_env(config, purpose, check=not any(context.runner))
    seed = stream_seed(config.debugging.settings.seed, "module")
    policy = make_policy(config, env.observation_space, env.action_space, seed=seed)
    metrics, callbacks = context.metrics, context.callbacks
    on_episode_end = None
    if purpose == "sampling" and callbacks.listens("on_episode_end"):

        def on_episode_end(episode: Any) -> None:
            callbacks.call("on_episode_end", episode=episode, metrics=metrics)

    return EnvRunner(
        env,
        policy,
        num_steps=config.num_rollout_steps(),
        seed=context.stream_seed(config, purpose),
        check_values=not config.environment.settings.disable_env_checking,
        drop_bad_observations=config.env_runners.settings.bad_observations == "drop",
        always_rebuild=bool(config.learners.settings.learner_connector),
        on_episode_end=on_episode_end,
    )


def make_env(config: AlgorithmConfig, purpose: Purpose, *, check: bool = True) -> VectorEnv:
    """Build the vector env of a runner; if it is for sampling, one env is checked before."""
    environment, runners = config.environment.settings, config.env_runners.settings
    restart_failed = config.fault_tolerance.settings.restart_failed_sub_environments
    if environment.env is None:
        raise ConfigError("environment.env: got None, expected an env. Call config.environment('CartPole-v1').")
    if check and purpose == "sampling" and not environment.disable_env_checking:
        make_single = functools.partial(make_single_env, environment.env, environment.env_config)
        single = RestartingEnv(make_single) if restart_failed else make_single()
        try:
            for note in check_env(single):
                warnings.warn(note, stacklevel=2)
        finally:
            single.close()
    num_envs, env_config = runners.num_envs_per_env_runner, environment.env_config
    if purpose == "evaluation":
        evaluation = config.evaluation.settings
        env_config = env_config | evaluation.evaluation_env_config
        # A process for each of 20 slots would take longer to start than to play.
        most = num_envs if runners.gym_env_vectorize_mode.startswith("async") else 32
        num_envs = evaluation.num_slots(most)
    return make_vector_env(
        environment.env,
        num_envs=num_envs,
        vectorize_mode=runners.gym_env_vectorize_mode,
        env_config=env_config,
        restart_failed=restart_failed,
    )


def make_policy(
    config: AlgorithmConfig, observation_space: Space[Any], action_space: Space[Any], *, seed: int
) -> Policy:
    """Build a policy for the spaces of an env, with the module and connectors that the config names.

    Args:
        config: Of the algorithm that trains it.
        observation_space: The env's.
        action_space: The env's.
        seed: Of the initial weights.

    Raises:
        ConfigError: actions would be scaled twice.
        UnsupportedSpaceError: the algorithm or the module cannot handle them.
    """
    environment, runners, spec = config.environment.settings, config.env_runners.settings, config.module_spec()
    action_connectors = [
        *runners.module_to_env_connector,
        ActionToEnv(clip=environment.clip_actions, rescale=environment.normalize_actions),
    ]
    module_space = ActionChain(action_connectors, action_space).module_space
    given, decided = ([*leaf_spaces(space)] for space in (action_space, module_space))
    if environment.normalize_actions and any(isinstance(leaf[1], Box) and leaf not in decided for leaf in given):
        names = ", ".join(type(piece).__name__ for piece in runners.module_to_env_connector)
        raise ConfigError(
            "environment(normalize_actions=True) scales actions from [-1, 1] to the env's bounds, but the connectors "
            f"{names} give the env's own. Set it to False."
        )
    config.check_action_space(module_space)
    obs_connectors = with_required_connector(spec, observation_space, action_space, runners.env_to_module_connector)
    return Policy(
        spec,
        observation_space,
        action_space,
        obs_connectors=obs_connectors,
        action_connectors=action_connectors,
        seed=seed,
        inference_dtype=runners.inference_dtype,
    )


def make_learner(config: AlgorithmConfig, runner: Runner) -> Updater:
    """Build the in-process learner of the runner's only policy."""
    ((name, policy),) = runner.policies.items()
    seed = config.debugging.settings.seed
    module = policy.build_module(seed=stream_seed(seed, "module"))
    return config.make_learner(
        placed(module, config.learners.settings),
        make_optimizer=optimizer_factory(config.learners.settings, config.training.settings),
        seed=stream_seed(seed, "learner", name),
        name=name,
        connectors=make_learner_chain(
            config, policy.obs_chain, policy.action_chain, stream_seed(seed, "learner connectors", name)
        ),
    )


M = TypeVar("M", bound=nn.Module)


def placed(module: M, settings: LearnerSettings) -> M:
    """Bring a module to where and how it is to be trained.

    Raises:
        ConfigError: torch cannot use the device here.
    """
    device = settings.device
    if device == "auto":
        device = "cuda" if settings.num_gpus_per_learner else "cpu"
    try:
        module.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"learners.device: got {settings.device!r}, which torch cannot use here (num_gpus_per_learner="
            f"{settings.num_gpus_per_learner:g}): {error}. Set device='cpu' to learn without a GPU."
        ) from error
    if torch.device(device).type == "cuda":  # cuDNN wants a buffer of its own for weights, but the optimizer has one
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
    if settings.torch_compile:
        for part in module.children():
            part.compile()
    return module


def listen_to_learners(updater: Updater, callbacks: CallbackList, metrics: MetricsLogger) -> None:
    """Have `on_learner_update_end` called by the learner of each module, where anybody listens.

    Whoever makes an updater, or gives it new learners, calls this in the same process.
    """
    if callbacks.listens("on_learner_update_end"):

        def on_update_end(learner: ModuleLearner, result: Metrics) -> None:
            callbacks.call("on_learner_update_end", learner=learner, result=result, metrics=metrics)

        for learner in updater.learners.values():
            learner.on_update_end = on_update_end


def make_learner_chain(
    config: AlgorithmConfig, obs_chain: ObsChain, action_chain: ActionChain, seed: int
) -> LearnerChain | None:
    """Build what a policy's learner does to each rollout first, if that is anything.

    Args:
        config: Of the algorithm that trains the policy.
        obs_chain: The policy's; an empty one of the module's inputs where the rollouts carry those in any case.
        action_chain: The policy's.
        seed: Of the learner connectors.
    """
    pieces = config.learners.settings.learner_connector
    if not pieces and obs_chain.rebuilt_from(always=False) == len(obs_chain.pieces):
        return None
    return LearnerChain(pieces, obs_chain, action_chain.module_space, seed)


DEFAULT_COMPONENTS = Components(env_runner=make_env_runner, learner=make_learner)
