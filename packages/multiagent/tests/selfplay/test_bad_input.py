"""What goes wrong in a run with self-play is said with agent, policy and step."""

import numpy as np
import pytest
from gymnasium import spaces
from scripted import Always

from rl_core import PPOConfig
from rl_core.errors import ConfigError, EnvError, RLError
from rl_core.module import MaskedActorCritic
from rl_multiagent import MultiAgent, MultiAgentEnv, OpenSpielEnv, PolicySpec, add_policy, map_agents
from rl_multiagent.selfplay import AgainstPool, PolicyPool

pytest.importorskip("pyspiel")

AGENTS = ("player_0", "player_1")


def make_config(policies, match, env=OpenSpielEnv, **env_config):
    return (
        PPOConfig()
        .environment(env, env_config=env_config)
        .env_runners(num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=64, minibatch_size=32)
        .rl_module(module_class=MaskedActorCritic, model_config={"fcnet_hiddens": (4,)})
        .use(MultiAgent(policies=policies, policy_mapping_fn=match))
    )


def test_a_match_with_an_unknown_policy_names_agent_policy_and_episode():
    algorithm = make_config(("main",), None, game="tic_tac_toe").build()
    algorithm.train()
    map_agents(algorithm, AgainstPool(AGENTS, "main", ("main_v1",), (1.0,)))
    with pytest.raises(ConfigError, match=r"agent 'player_[01]' is mapped to 'main_v1' in episode \d+ of env slot \d"):
        algorithm.train()
    algorithm.stop()


def test_a_fixed_match_with_an_unknown_policy_is_refused_at_once_and_changes_nothing():
    algorithm = make_config(("main",), None, game="tic_tac_toe").build()
    with pytest.raises(ConfigError, match="agent 'player_1' is mapped to 'main_v1', which is no policy"):
        map_agents(algorithm, {"player_0": "main", "player_1": "main_v1"})
    algorithm.train()
    algorithm.stop()


def test_a_copy_of_another_game_is_refused_and_changes_nothing():
    algorithm = make_config(("main",), None, game="tic_tac_toe").build()
    pool = PolicyPool()
    pool.put("stranger", make_config(("main",), None, game="connect_four").build().env_runner.policies["main"])
    with pytest.raises(RLError, match=r"stranger|shape"):
        add_policy(algorithm, "stranger", weights=pool["stranger"])
    assert list(algorithm.env_runner.policies) == ["main"]
    algorithm.train()
    algorithm.stop()


def test_a_policy_that_plays_illegal_moves_in_a_run_is_told_apart():
    policies = {"main": PolicySpec(), "heedless": PolicySpec(module_class=Heedless)}
    algorithm = make_config(policies, AgainstPool(AGENTS, "main", ("heedless",), (1.0,)), game="tic_tac_toe").build()
    with pytest.raises(EnvError, match=r"move \d+: action 0 of agent 'player_[01]' is not legal.*heeds the mask"):
        for _ in range(5):
            algorithm.train()
    algorithm.stop()


class Heedless(Always):
    """Plays its action, legal or not."""

    def forward_policy(self, obs, state=()):
        logits, state = super().forward_policy({"action_mask": obs["action_mask"] * 0 + 1}, state)
        return logits, state


class RunsDry(MultiAgentEnv):
    """A game that leaves the right player without a legal action in its fourth step."""

    possible_agents = ("left", "right")

    def __init__(self):
        seen = spaces.Dict({"action_mask": spaces.MultiBinary(2), "observations": spaces.Box(0, 1, (1,), np.float32)})
        self.observation_spaces = dict.fromkeys(self.possible_agents, seen)
        self.action_spaces = dict.fromkeys(self.possible_agents, spaces.Discrete(2))
        self.num_games = 0

    def reset(self, *, seed=None, options=None):
        self.time, self.num_games = 0, self.num_games + 1
        return {"left": self._see()}, {}

    def step(self, actions):
        self.time += 1
        return {self.possible_agents[self.time % 2]: self._see()}, {}, {"__all__": self.time == 4}, {}, {}

    def _see(self):
        mask = np.full(2, not (self.time == 3 and self.num_games > 3), np.int8)
        return {"action_mask": mask, "observations": np.zeros(1, np.float32)}


@pytest.mark.parametrize(
    ("is_checked", "message"),
    [(True, r"step 15: agent 'right' is to act"), (False, r"env slot 0, step 3: agent 'right' is to act")],
)
def test_a_game_that_runs_out_of_legal_actions_names_agent_and_step(is_checked, message):
    config = make_config(("main",), None, env=RunsDry).environment(disable_env_checking=not is_checked)
    with pytest.raises(EnvError, match=message):
        config.build().train()
