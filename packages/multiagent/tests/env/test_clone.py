"""Clones are n copies of one env; as rows of a vector env they do the same without a loop."""

import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from rl_core import PPOConfig
from rl_core.errors import ConfigError, EnvError
from rl_multiagent import AgentsVectorEnv, MultiAgent, clone_agents
from rl_multiagent.env.clone_vector import ClonedAgentsVectorEnv
from rl_multiagent.env.make import make_agents_vector_env, make_multi_agent_env
from rl_multiagent.env.vector import SyncAgentsEnv
from rl_multiagent.testing import check_agents_vector_env, check_multi_agent_env


class CountDown(gymnasium.Env):
    """Every action takes off 1 or 2 of a number; at zero the episode ends, after 6 steps it is cut."""

    observation_space = spaces.Dict({"left": spaces.Box(-9, 9, (1,), np.float32)})
    action_space = spaces.Discrete(2, start=1)

    def reset(self, *, seed=None, options=None):
        self.left, self.time = 9, 0
        return self.look(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.left, self.time = self.left - action, self.time + 1
        return self.look(), float(action), self.left <= 0, self.time == 6, {}

    def look(self):
        return {"left": np.array([self.left], np.float32)}


class CountDownRows(VectorEnv):
    """The same as arrays; `mode` says how rows begin anew."""

    mode = AutoresetMode.DISABLED

    def __init__(self, num_envs=1):
        self.num_envs = num_envs
        self.metadata = {"autoreset_mode": self.mode}
        self.single_observation_space, self.single_action_space = CountDown.observation_space, CountDown.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.left, self.time = np.zeros(num_envs), np.zeros(num_envs)
        self.prev_done = np.zeros(num_envs, bool)

    def reset(self, *, seed=None, options=None):
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        self.begin(mask)
        self.prev_done[:] = False
        return self.look(), {}

    def step(self, actions):
        assert self.action_space.contains(actions)
        self.left, self.time = self.left - actions, self.time + 1
        again = self.prev_done if self.mode is AutoresetMode.NEXT_STEP else np.zeros(self.num_envs, bool)
        self.begin(again)
        terminated, truncated = (self.left <= 0) & ~again, (self.time == 6) & ~again
        self.prev_done = terminated | truncated
        return self.look(), np.where(again, 0.0, actions), terminated, truncated, {}

    def begin(self, mask):
        self.left[mask], self.time[mask] = 9, 0

    def look(self):
        return {"left": np.clip(self.left, -9, 9).astype(np.float32)[:, np.newaxis]}


class CountDownRowsNextStep(CountDownRows):
    mode = AutoresetMode.NEXT_STEP


class CountDownRowsSameStep(CountDownRows):
    mode = AutoresetMode.SAME_STEP


def transcript(env, num_steps):
    """What each agent of each slot saw, did, earned and how it ended, without the steps in which nobody acts."""
    rng = np.random.default_rng(0)
    plans = rng.integers(1, 3, size=(env.num_envs, env.layout.num_agents, 100))
    done_of = np.zeros(plans.shape[:2], int)
    step = env.reset(0)
    told = {}
    for _ in range(num_steps):
        (actions,) = env.layout.empty_actions(env.num_envs)
        acts, seen = step.acts.copy(), step.obs[0]["left"].copy()
        for slot, agent in np.argwhere(acts):
            actions[slot, agent] = plans[slot, agent, done_of[slot, agent]]
            done_of[slot, agent] += 1
        step = env.step((actions,))
        for slot, agent in np.argwhere(acts):
            ended = bool(step.final_observed[slot, agent])
            told.setdefault((slot, agent), []).append(
                (
                    float(seen[slot, agent, 0]),
                    int(actions[slot, agent]),
                    float(step.reward[slot, agent]),
                    bool(step.terminated[slot, agent]),
                    bool(step.truncated[slot, agent]),
                    float(step.final_obs[0]["left"][slot, agent, 0]) if ended else None,
                )
            )
        assert not (step.reward[~acts] != 0).any(), "who does not act earns nothing"
    return told


@pytest.mark.parametrize("rows", [CountDownRows, CountDownRowsNextStep])
def test_rows_do_what_copies_do(rows):
    copies = SyncAgentsEnv(lambda: clone_agents(CountDown, 3)({}), 2, name="copies")
    arrays = clone_agents(rows, 3).make_vector(2, {})
    assert isinstance(arrays, AgentsVectorEnv)
    expected, got = transcript(copies, 60), transcript(arrays, 60)
    for key, told in expected.items():
        shorter = min(len(told), len(got[key]))
        assert shorter > 30
        assert told[:shorter] == got[key][:shorter]
    if rows is CountDownRows:
        assert expected == got, "not a step more"


@pytest.mark.parametrize("rows", [CountDownRows, CountDownRowsNextStep, "CartPole-v1"])
def test_arrays_keep_to_the_contract(rows):
    env = make_agents_vector_env(clone_agents(rows, 4), 3)
    check_agents_vector_env(env, 60)
    env.close()


def test_cartpole_steps_as_arrays_and_goes_on_from_a_saved_state():
    first, second = (make_agents_vector_env(clone_agents("CartPole-v1", 3), 2) for _ in range(2))
    assert type(first) is ClonedAgentsVectorEnv
    actions = first.layout.empty_actions(2)
    first.reset(0)
    for _ in range(37):
        first.step(actions)
    state = first.get_state()
    second.reset(5)
    second.set_state(state)
    for _ in range(40):
        one, two = first.step(actions), second.step(actions)
        for name in ("acts", "reward", "terminated", "first"):
            np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        np.testing.assert_array_equal(one.obs[0], two.obs[0])


def test_waiting_agents_wait_until_all_have_ended():
    env = make_agents_vector_env(clone_agents("CartPole-v1", 2), 1)
    step = env.reset(0)
    lengths, alive = np.zeros(2, int), True
    while alive:
        (actions,) = env.layout.empty_actions(1)
        actions[0] = [0, int(lengths[1]) % 2]  # the first falls at once, the second holds on
        lengths += step.acts[0]
        step = env.step((actions,))
        assert step.reward[0].tolist() == [
            float(lengths[0] > 0 and before) for before in (step.acts[0] | step.terminated[0])
        ]
        alive = bool(step.acts.any())
    assert lengths[0] < lengths[1]
    step = env.step((actions,))
    assert step.first.all()
    assert step.acts.all()
    assert np.abs(step.obs[0]).max() <= 0.05, "both begin anew"


def test_copies_get_seeds_of_their_own():
    env = make_multi_agent_env(clone_agents("CartPole-v1", 3))
    obs, _ = env.reset(seed=1)
    again, _ = env.reset(seed=1)
    assert list(obs) == ["0", "1", "2"]
    assert len({value.tobytes() for value in obs.values()}) == 3
    assert all((obs[agent] == again[agent]).all() for agent in obs)
    assert check_multi_agent_env(env) == []


@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
def test_config_takes_clones_and_stores_them(mode):
    config = (
        PPOConfig()
        .environment(clone_agents("CartPole-v1", 2), env_config={"max_episode_steps": 30})
        .env_runners(num_envs_per_env_runner=2, gym_env_vectorize_mode=mode)
        .training(train_batch_size_per_learner=40, minibatch_size=40, num_epochs=1)
        .rl_module(model_config={"fcnet_hiddens": (4,)})
        .use(MultiAgent())
    )
    stored = json.loads(json.dumps(config.to_dict()))
    assert PPOConfig.from_dict(stored).environment.settings.env == clone_agents("CartPole-v1", 2)
    algorithm = config.build()
    try:
        result = algorithm.train()
        assert result["env_steps"] == 40
    finally:
        algorithm.stop()


def test_rows_that_reset_only_by_themselves_are_refused():
    with pytest.raises(EnvError, match=r"autoreset mode SAME_STEP\) cannot reset single rows on request"):
        make_agents_vector_env(clone_agents(CountDownRowsSameStep, 2), 2)


def test_an_env_without_a_vectorised_form_is_refused():
    with pytest.raises(EnvError, match="no vectorised form"):
        make_agents_vector_env(clone_agents("Acrobot-v1", 2), 2)


def test_no_agents_are_refused():
    with pytest.raises(ConfigError, match="num_agents is 0, expected at least 1"):
        clone_agents("CartPole-v1", 0)
