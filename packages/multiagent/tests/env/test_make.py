"""What users may give as an env becomes a vector env, checked once, in the mode they ask for."""

import multiprocessing

import pytest
from plain_envs import CountEnv, ScriptedEnv

from rl_core import PPOConfig
from rl_core.errors import ConfigError, EnvError
from rl_multiagent import MultiAgent
from rl_multiagent.env.make import make_agents_env, make_agents_vector_env, make_multi_agent_env
from rl_multiagent.env.vector import SyncAgentsEnv
from rl_multiagent.env.workers import AsyncAgentsEnv


def config_of(env, mode="sync", extension=None, **environment):
    runners = {"num_envs_per_env_runner": 2, "gym_env_vectorize_mode": mode}
    return PPOConfig().environment(env, **environment).env_runners(**runners).use(extension or MultiAgent())


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("sync", SyncAgentsEnv), ("async", AsyncAgentsEnv), ("async_shared_memory", AsyncAgentsEnv)],
)
def test_modes_say_where_envs_are_stepped(mode, kind):
    env = make_agents_env(config_of(CountEnv, mode, env_config={"lengths": (1, 2, 3)}), "sampling")
    assert type(env) is kind
    assert env.num_envs == 2
    assert env.layout.num_agents == 3
    env.close()


class CountArrays(SyncAgentsEnv):
    def __init__(self, num_envs, lengths=(2, 4)):
        super().__init__(lambda: CountEnv(lengths), num_envs, name="count")
        self.closed = False
        type(self).last = self

    def step(self, actions):
        step = super().step(actions)
        if self.layout.num_agents == 1:
            step.reward[:] = float("nan")
        return step

    def close(self):
        self.closed = True


def test_a_vector_env_of_ones_own_is_made_and_checked():
    env = make_agents_env(config_of(CountArrays, "vector_entry_point"), "sampling")
    assert type(env) is CountArrays
    with pytest.raises(EnvError, match=r"step 1, env slot 0: agent 'agent_0' got a reward that is no finite number"):
        make_agents_env(config_of(CountArrays, "vector_entry_point", env_config={"lengths": (3,)}), "sampling")
    assert CountArrays.last.closed


def test_envs_are_checked_for_sampling_unless_one_knows_better():
    def make(env_config):
        made.append(ScriptedEnv([{"a": 1}, ({"c": 1}, {}, {}, {})]))
        return made[-1]

    made = []
    with pytest.raises(EnvError, match="step 1: observations name agent 'c'"):
        make_agents_env(config_of(make), "sampling")
    assert made[0].closed
    make_agents_env(config_of(make, disable_env_checking=True), "sampling")
    make_agents_env(config_of(make), "evaluation")
    with pytest.raises(EnvError, match="step 1: observations name agent 'c'"):
        config_of(make).build()


def test_notes_of_the_check_are_warnings():
    class Unseeded(CountEnv):
        def reset(self, *, seed=None, options=None):
            return super().reset()

    with pytest.warns(UserWarning, match=r"Two runs from reset\(seed=0\) with the same actions are not the same"):
        make_agents_env(config_of(Unseeded), "sampling")


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (3, r"got 3, expected a MultiAgentEnv class or a function"),
        (lambda config: 4, r"made a builtins\.int, expected a MultiAgentEnv or an env of PettingZoo"),
        (lambda config: 1 / 0, r"cannot be made with \{'size': 1\}: ZeroDivisionError"),
        (CountEnv, r"CountEnv cannot be made with \{'size': 1\}: TypeError"),
    ],
)
def test_what_makes_no_env_is_refused(env, message):
    with pytest.raises(EnvError, match=message):
        make_multi_agent_env(env, {"size": 1})


def test_what_makes_no_vector_env_is_refused():
    with pytest.raises(EnvError, match=r"made a plain_envs\.CountEnv, expected an AgentsVectorEnv"):
        make_agents_vector_env(lambda config: CountEnv(), 2)
    with pytest.raises(EnvError, match=r"made 1 env slots, expected num_envs = 2"):
        make_agents_vector_env(lambda config: CountArrays(1), 2)


def test_a_run_in_processes_is_the_same_and_leaves_none_behind():
    returns = []
    for mode in ("sync", "async"):
        config = config_of(CountEnv, mode, MultiAgent(policies=("agent_0", "agent_1"))).training(
            train_batch_size_per_learner=20, minibatch_size=20, num_epochs=1
        )
        config.rl_module(model_config={"fcnet_hiddens": (4,)})
        algorithm = config.build()
        returns.append([algorithm.train()["env_runners/episode_return_mean"] for _ in range(2)])
        algorithm.stop()
    assert returns[0] == returns[1]
    assert multiprocessing.active_children() == []


def test_no_env_is_a_mistake_of_the_config():
    with pytest.raises(ConfigError, match=r"environment\.env: got None"):
        make_agents_env(PPOConfig(), "sampling")
