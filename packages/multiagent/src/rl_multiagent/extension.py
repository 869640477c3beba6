"""`config.use(MultiAgent(...))`: many agents in one env, each played by a policy of its own or a shared one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from rl_core import AlgorithmConfig, Components, Extension, Policy
from rl_core.algorithm.components import Context, Purpose, Updater, make_learner_chain, make_policy, placed
from rl_core.config.codec import Storable
from rl_core.connect.chain import ObsChain
from rl_core.errors import ConfigError
from rl_core.learning.optimizer import optimizer_factory
from rl_core.module.spec import initial_weights
from rl_core.rng import stream_seed
from rl_core.sampling.protocol import Runner
from rl_multiagent.algorithms.mappo import MAPPOConfig, MAPPOSettings
from rl_multiagent.critic_learner import CRITIC, CriticLearner
from rl_multiagent.env.layout import AgentKind, AgentLayout
from rl_multiagent.env.make import make_agents_env
from rl_multiagent.learner import MultiLearner
from rl_multiagent.mapping import PolicyMapper, PolicyMappingFn, check_columns
from rl_multiagent.module.central_critic import CentralCritic
from rl_multiagent.sampling.joint import num_joint_features
from rl_multiagent.sampling.runner import MultiAgentRunner


@dataclass(frozen=True)
class PolicySpec(Storable):
    """What one policy has of its own; everything else is as the run's config says."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings by dotted name, such as `{"training.lr": 1e-3, "rl_module.model_config.fcnet_hiddens": (32,)}`."""
    algorithm: type[AlgorithmConfig] | None = None
    """Config class of the algorithm that trains it, such as `DQNConfig`; None takes the run's config."""
    module_class: Any = None
    """Its module, derived from RLModule: one that learns, or that plays by rules; None as the config says."""
    like: str | None = None
    """Name of an agent whose spaces it is for: needed where agents differ and the mapping is a function."""


@dataclass(frozen=True)
class MultiAgent(Extension):
    """Lets policies play the agents of a `MultiAgentEnv`, PettingZoo env or OpenSpiel game.

    Learner connectors get observations as modules do, also where observation connectors flatten them.

    Example:
        >>> config.use(MultiAgent(policies=("left", "right")))  # each agent's policy is called as the agent
        >>> config.use(MultiAgent())  # one policy for all agents
        >>> config.use(MultiAgent(policies={"main": PolicySpec(), "old": PolicySpec()}, policy_mapping_fn=match,
        ...     policies_to_train=("main",)))
    """

    policies: Mapping[str, PolicySpec] | tuple[str, ...] = ("default",)
    """Policies by id, or ids alone where all are as the config says."""
    policy_mapping_fn: Mapping[str, str] | PolicyMappingFn | None = None
    """From agents to policies: a mapping; a function `(agent, episode) -> policy`, asked at the beginning of every
    episode; or None: the only policy plays everyone, or each agent's is called as the agent."""
    policies_to_train: tuple[str, ...] | None = None
    """Ids of the policies that learn; None for all whose module has parameters."""

    def __post_init__(self) -> None:
        """Check names.

        Raises:
            ConfigError: there is no policy, or one to train does not exist.
        """
        specs = self.policies
        if not isinstance(specs, Mapping):
            specs = {name: PolicySpec() for name in specs}
        if not specs:
            raise ConfigError("MultiAgent: policies is empty. Name at least one.")
        if CRITIC in specs:
            raise ConfigError(f"MultiAgent: a policy cannot be called {CRITIC!r}, as MAPPO's critic is.")
        for name, spec in specs.items():
            if not isinstance(spec, PolicySpec):
                raise ConfigError(f"MultiAgent: policy {name!r} is {spec!r}, expected a PolicySpec.")
        strangers = sorted(set(self.policies_to_train or ()) - set(specs))
        if strangers:
            raise ConfigError(
                f"MultiAgent: policies_to_train names {strangers[0]!r}, but there are only {', '.join(specs)}."
            )
        object.__setattr__(self, "policies", dict(specs))

    def components(self, components: Components) -> Components:
        """Replace runner and learner."""
        return dataclasses.replace(components, env_runner=self.make_runner, learner=self.make_learner)

    def make_runner(self, config: AlgorithmConfig, purpose: Purpose, context: Context) -> MultiAgentRunner:
        """Build envs and policies."""
        env = make_agents_env(config, purpose)
        mapper = self.make_mapper(env.layout, seed=context.stream_seed(config, purpose, "mapping"))
        on_episode_end = None
        if purpose == "sampling" and context.callbacks.listens("on_episode_end"):

            def on_episode_end(episode: Any) -> None:
                context.callbacks.call("on_episode_end", episode=episode, metrics=context.metrics)

        return MultiAgentRunner(
            env,
            {name: self.make_policy(name, config, mapper, env.layout) for name in self.specs},
            mapper,
            num_steps=config.num_rollout_steps(),
            seed=context.stream_seed(config, purpose),
            joint=self.judged_together(config),
            check_values=not config.environment.settings.disable_env_checking,
            drop_bad_observations=config.env_runners.settings.bad_observations == "drop",
            on_episode_end=on_episode_end,
        )

    def make_learner(self, config: AlgorithmConfig, runner: Runner) -> Updater:
        """Build a learner for each policy that learns, and the critic that they may share."""
        learner = MultiLearner({})
        self.change_learner(learner, config, runner)
        return learner

    def change_learner(
        self, learner: MultiLearner, config: AlgorithmConfig, source: Runner, *, anew: Collection[str] = ()
    ) -> None:
        """Give each policy that learns a learner, and all of MAPPO's a critic; what is there already stays.

        Args:
            learner: To be changed.
            config: Of the run.
            source: Has the policies as they are now, and the layout of the env.
            anew: Policies whose learners are made again.
        """
        there = {name: updater for name, updater in learner.updaters.items() if name not in anew}
        learner.updaters = {
            name: there.get(name) or self._make_updater(name, config, policy)
            for name, policy in source.policies.items()
            if self.is_trained(name, policy)
        }
        judged = self.judged_together(config)
        learner.critic = (learner.critic or self._make_critic(judged[0], config, source.layout)) if judged else None

    def judged_together(self, config: AlgorithmConfig) -> list[str]:
        """Ids of the policies of MAPPO, which one critic judges that sees all agents."""
        return [name for name in self.specs if isinstance(self._config_of(name, config), MAPPOConfig)]

    def _make_critic(self, name: str, config: AlgorithmConfig, layout: AgentLayout) -> CriticLearner:
        """Build the learner of the critic that policies share, with the settings of the one named."""
        own, seed = self._config_of(name, config), config.debugging.settings.seed
        settings = own.training.settings
        assert isinstance(settings, MAPPOSettings), "judged_together names policies of MAPPO"
        with initial_weights(stream_seed(seed, "module", CRITIC)):
            critic = CentralCritic(num_joint_features(layout), settings.critic_hiddens, settings.critic_activation)
        return CriticLearner(
            placed(critic, config.learners.settings),
            settings,
            make_optimizer=optimizer_factory(own.learners.settings, settings),
            seed=stream_seed(seed, "learner", CRITIC),
        )

    def make_mapper(self, layout: AgentLayout, *, seed: int) -> PolicyMapper:
        """Make what works out who plays whom."""
        return PolicyMapper(self.policy_mapping_fn, layout, list(self.specs), seed=seed)

    def _make_updater(self, name: str, config: AlgorithmConfig, policy: Policy) -> Updater:
        """Build the learner of one policy, which begins with the policy's weights."""
        seed, own = config.debugging.settings.seed, self._config_of(name, config)
        module = policy.build_module(seed=stream_seed(seed, "module", name))
        module.load_state_dict(policy.module.state_dict(), strict=False)  # without what only the learner has
        inputs = ObsChain((), policy.obs_chain.output_space, policy.obs_chain.action_space)  # as in the rollouts
        return own.make_learner(
            placed(module, config.learners.settings),
            make_optimizer=optimizer_factory(own.learners.settings, own.training.settings),
            seed=stream_seed(seed, "learner", name),
            name=name,
            connectors=make_learner_chain(
                own, inputs, policy.action_chain, stream_seed(seed, "learner connectors", name)
            ),
        )

    @property
    def specs(self) -> dict[str, PolicySpec]:
        """All policies, by id."""
        assert isinstance(self.policies, dict)
        return self.policies

    def is_trained(self, name: str, policy: Policy) -> bool:
        """Whether a policy learns."""
        if self.policies_to_train is not None:
            return name in self.policies_to_train
        return any(True for _ in policy.module.parameters())

    def _config_of(self, name: str, config: AlgorithmConfig) -> AlgorithmConfig:
        """The config that one policy is made and trained by."""
        spec = self.specs[name]
        own = config.copy() if spec.algorithm is None else spec.algorithm()
        if spec.module_class is not None:
            own.rl_module(module_class=spec.module_class)
        for setting, value in spec.settings.items():
            try:
                own.set(setting, value)
            except ConfigError as error:
                raise ConfigError(f"PolicySpec of {name!r}: {error}") from None
        return own

    def make_policy(self, name: str, config: AlgorithmConfig, mapper: PolicyMapper, layout: AgentLayout) -> Policy:
        """Build one policy for the spaces of the agents that it plays."""
        kind = self._kind(name, mapper, layout)
        seed = stream_seed(config.debugging.settings.seed, "module", name)
        return make_policy(self._config_of(name, config), kind.observation_space, kind.action_space, seed=seed)

    def _kind(self, name: str, mapper: PolicyMapper, layout: AgentLayout) -> AgentKind:
        """Find the kind of agents that a policy plays."""
        like = self.specs[name].like
        columns = mapper.columns(name)
        if like is not None:
            agents = {str(agent): column for agent, column in layout.index.items()}
            if like not in agents:
                raise ConfigError(f"PolicySpec(like={like!r}) of {name!r}: the env has no such agent.")
            columns = [agents[like]]
        return layout.kinds[layout.kind_of(check_columns(name, columns, layout, fixed=mapper.is_fixed)[0])]
