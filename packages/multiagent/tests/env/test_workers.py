"""Env slots in processes say what they say in one process, and go away when asked to."""

import functools
import multiprocessing
import time

import numpy as np
import pytest
from plain_envs import CountEnv
from scheduled_env import ScheduledEnv

from rl_core.errors import CheckpointError, EnvError
from rl_multiagent.env.vector import AgentsVectorEnv, SyncAgentsEnv
from rl_multiagent.env.workers import AsyncAgentsEnv
from rl_multiagent.testing import check_agents_vector_env

COLUMNS = ("acts", "reward", "terminated", "truncated", "first", "final_observed")


@pytest.fixture(autouse=True)
def no_process_is_left():
    yield
    assert multiprocessing.active_children() == []


def copied(step):
    parts = {name: getattr(step, name).copy() for name in COLUMNS}
    parts["obs"] = [leaf[step.acts[:, : leaf.shape[1]]] if len(step.obs) == 1 else leaf.copy() for leaf in step.obs]
    return parts


def drive(env, num_steps, seed=0):
    rng = np.random.default_rng(seed)
    said = [copied(env.reset(3))]
    for _ in range(num_steps):
        actions = env.layout.empty_actions(env.num_envs)
        for kind, leaf in zip(env.layout.kinds, actions, strict=True):
            leaf[:] = rng.integers(3, size=leaf.shape) if leaf.dtype.kind == "i" else rng.uniform(-1, 1, leaf.shape)
            assert leaf.shape[1] == kind.num_agents
        said.append(copied(env.step(actions)))
    return said


@pytest.mark.parametrize("make", [CountEnv, functools.partial(ScheduledEnv, seed=4, turn_based=True)])
def test_processes_say_what_one_process_says(make):
    compare(make, 3)


def test_processes_may_be_spawned_and_get_functions_from_any_place():
    compare(lambda: CountEnv((1, 3)), 1, start_method="spawn")


def compare(make, num_envs, **settings):
    alone = SyncAgentsEnv(make, num_envs, name="env")
    apart = AsyncAgentsEnv(make, num_envs, name="env", **settings)
    assert isinstance(apart, AgentsVectorEnv)
    try:
        for one, two in zip(drive(alone, 25), drive(apart, 25), strict=True):
            for name, column in one.items():
                np.testing.assert_array_equal(column, two[name], err_msg=name)
        check_agents_vector_env(apart, 10)
    finally:
        apart.close()


def test_states_are_taken_and_given_back():
    first, second = (AsyncAgentsEnv(CountEnv, 2, name="env") for _ in range(2))
    try:
        drive(first, 9)
        second.reset(8)
        second.set_state(first.get_state())
        actions = first.layout.empty_actions(2)
        for _ in range(6):
            one, two = copied(first.step(actions)), copied(second.step(actions))
            for name in COLUMNS:
                np.testing.assert_array_equal(one[name], two[name])
        with pytest.raises(CheckpointError, match="has 1 slots, this run 2"):
            second.set_state({"slots": [None]})
        with pytest.raises(CheckpointError, match="malformed"):
            second.set_state({"slots": [{"env": {}, "slot": {}}] * 2})
    finally:
        first.close()
        second.close()


def test_an_error_names_slot_and_step_and_the_others_go_on():
    env = AsyncAgentsEnv(lambda: CountEnv((9, 9), fail_at=4), 2, name="Counting")
    actions = env.layout.empty_actions(2)
    env.reset(0)
    for _ in range(3):
        env.step(actions)
    with pytest.raises(EnvError, match=r"Counting, env slot 0, step 4: step failed with RuntimeError: the engine stal"):
        env.step(actions)
    env.step(actions)  # answers and commands are still in step
    env.close()


def test_a_process_that_dies_is_named():
    env = AsyncAgentsEnv(lambda: CountEnv((9, 9), fail_at=2, how="die"), 2, name="Counting")
    actions = env.layout.empty_actions(2)
    env.reset(0)
    env.step(actions)
    with pytest.raises(EnvError, match=r"Counting, env slot 0: its process died with exit code 7"):
        env.step(actions)
    with pytest.raises(EnvError, match=r"its process died"):
        env.step(actions)
    env.close()


def test_close_ends_a_process_that_hangs(monkeypatch):
    monkeypatch.setattr("rl_multiagent.env.workers._CLOSE_TIMEOUT_S", 0.2)
    env = AsyncAgentsEnv(lambda: CountEnv(fail_at=1, how="hang"), 2, name="Counting")
    env.reset(0)
    for pipe in env._pipes:
        pipe.send(("step", None))
    started = time.perf_counter()
    env.close()
    assert time.perf_counter() - started < 20
    env.close()  # twice is fine
    with pytest.raises(EnvError, match="reset was called, but the env is closed"):
        env.reset(0)


class FailsInWorkers(CountEnv):
    def __init__(self):
        super().__init__()
        if multiprocessing.parent_process() is not None:
            raise RuntimeError("no display here")


def test_an_env_that_cannot_be_made_in_a_process_is_reported():
    with pytest.raises(EnvError, match=r"Counting, env slot 0: make failed with RuntimeError: no display here"):
        AsyncAgentsEnv(FailsInWorkers, 2, name="Counting")
