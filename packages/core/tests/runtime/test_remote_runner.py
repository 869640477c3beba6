"""Env runners in other processes: real ones, with real faults."""

import gc
import importlib
import os
import re
import signal
import threading
import time
from dataclasses import dataclass

import numpy as np
import pytest
import ray
import remote_envs
from remote_envs import BrokenEnv, CountEnv, LockedEnv

from rl_core import Algorithm, ConnectorState, DQNConfig, ObsConnector, PPOConfig
from rl_core.errors import ConfigError, EnvError, WorkerError
from rl_core.runtime import runner_group
from rl_core.runtime.line import Line
from rl_core.testing.envs import ObservationIsTimeEnv

pytestmark = pytest.mark.usefixtures("cluster")
ray.cloudpickle.register_pickle_by_value(remote_envs)
SMALL = {"fcnet_hiddens": (4,)}


@dataclass(frozen=True)
class CountSteps(ObsConnector):
    """Its statistics are the number of observations seen; what it gives is that number."""

    def output_space(self, observation_space, action_space):
        return observation_space

    def initial_state(self, observation_space, action_space, num_slots):
        return ConnectorState((np.zeros(()),), ())

    def observe(self, state, step):
        return (state.shared[0] + len(step.first),)

    def __call__(self, state, step):
        return state, step

    def merge(self, shared, base):
        return (base[0] + sum(part[0] - base[0] for part in shared),)


ray.cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])


def config(env=CountEnv, *, num_runners=2, num_envs=2, num_steps=10, settings=None, **env_config):
    batch = num_envs * num_steps * num_runners
    return (
        PPOConfig()
        .environment(env, env_config=env_config, disable_env_checking=True)
        .env_runners(num_env_runners=num_runners, num_envs_per_env_runner=num_envs, **(settings or {}))
        .training(train_batch_size_per_learner=batch, minibatch_size=batch, num_epochs=1)
        .rl_module(model_config=SMALL)
    )


@pytest.fixture
def build():
    """Build algorithms and stop them at the end."""
    built = []

    def make(*arguments, **settings):
        built.append(config(*arguments, **settings).build())
        return built[-1]

    yield make
    for algorithm in built:
        algorithm.stop()


@pytest.fixture(scope="module")
def pair():
    """Two runners that tests leave as they found them; they take no CPUs of the cluster from others."""
    algorithm = config(settings={"num_cpus_per_env_runner": 0.0}).build()
    yield algorithm.env_runner
    algorithm.stop()


def processes(rollout):
    """The process of each slot, in order."""
    return [int(number) for number in rollout.obs[0, :, 0].tolist()]


def until_full(algorithm, seconds=20.0):
    """Sample until all runners are back; returns the time that took."""
    start = time.monotonic()
    while algorithm.env_runner.num_healthy < algorithm.env_runner.num_runners:
        assert time.monotonic() - start < seconds
        algorithm.env_runner.sample()
    return time.monotonic() - start


def test_two_runners_sample_side_by_side_in_their_own_processes_and_learn_together(build):
    algorithm = build("CartPole-v1", num_envs=4, num_steps=64)
    rollout = algorithm.sample()
    assert rollout.reward.shape == (64, 8)
    assert not np.array_equal(rollout.obs[:, :4], rollout.obs[:, 4:]), "each has random numbers of its own"
    again = build("CartPole-v1", num_envs=4, num_steps=64).sample()
    assert np.array_equal(rollout.obs, again.obs), "the same ones in every run"
    results = [algorithm.train() for _ in range(3)]
    assert [result["env_steps"] for result in results] == [1024, 1536, 2048]
    assert results[-1]["learner/default/policy_age"] == 0.0
    assert results[-1]["env_runners/num_healthy_env_runners"] == 2
    assert results[-1]["env_runners/num_env_runner_restarts"] == 0
    assert results[-1]["env_runners/num_episodes_lifetime"] > 20
    pids = algorithm.foreach_env_runner(lambda runner: os.getpid())
    assert len({os.getpid(), *pids}) == 3
    versions = algorithm.foreach_env_runner(lambda runner: runner.policy.version)
    assert versions == [3, 3]


def test_statistics_of_connectors_are_merged_without_losing_or_doubling_any(build):
    algorithm = build(num_runners=2, settings={"env_to_module_connector": (CountSteps(),)})
    for _ in range(4):
        algorithm.train()
    observed = 4 * 40 + 4  # each step, and the first observation of each slot
    assert float(algorithm.policy.shared[0][0]) == observed
    counts = algorithm.foreach_env_runner(lambda runner: float(runner.policy.shared[0][0]))
    assert counts == [observed] * 2


@pytest.mark.parametrize(
    "fault", ["kill", *(pytest.param(name, marks=pytest.mark.learning) for name in ("hang", "raise"))]
)
def test_a_runner_that_fails_is_replaced_while_the_other_goes_on(build, tmp_path, fault):
    algorithm = build(folder=str(tmp_path), fault=fault, settings={"sample_timeout_s": 1.5})
    before = processes(algorithm.sample())
    with pytest.warns(UserWarning, match="Env runner . is replaced: "):
        rollouts = [algorithm.sample() for _ in range(3)]
    rollout = rollouts[-1]
    assert {rollout.reward.shape for rollout in rollouts} == {(10, 4)}, "the other samples twice"
    assert len(set(processes(rollout))) <= 2
    assert until_full(algorithm) < 20.0
    after = set(processes(algorithm.sample()))
    assert len(after) == 2
    assert len(after & set(before)) == 1
    assert algorithm.env_runner.num_restarts == 1
    assert algorithm.train()["env_runners/num_env_runner_restarts"] == 1


def test_without_a_line_the_same_crosses_in_calls_of_ray(build, monkeypatch):
    with_lines = build("CartPole-v1", num_envs=4, num_steps=64)
    rollouts = [with_lines.sample() for _ in range(2)]
    with_lines.stop()
    monkeypatch.setattr(runner_group, "listen", lambda: None)
    algorithm = build("CartPole-v1", num_envs=4, num_steps=64)
    runner = algorithm.env_runner
    for rollout in rollouts:
        assert np.array_equal(algorithm.sample().obs, rollout.obs)
    assert algorithm.train()["learner/default/policy_age"] == 0.0
    pids = algorithm.foreach_env_runner(lambda runner: os.getpid())
    with pytest.raises(EnvError, match="the simulator lost its licence") as error:
        algorithm.foreach_env_runner(fail)
    assert any("in fail" in note for note in error.value.__notes__)
    runner.submit(2)
    os.kill(pids[0], signal.SIGKILL)
    with pytest.warns(UserWarning, match="Env runner 0 is replaced: The actor died"):
        shapes = until_replaced(algorithm)
    assert set(shapes) == {(64, 8)}
    until_full(algorithm)
    assert pids[1] in algorithm.foreach_env_runner(lambda runner: os.getpid())


def until_replaced(algorithm):
    """Sample until Ray has noticed that a process is gone; return the shapes of the rollouts."""
    shapes = []
    while not algorithm.env_runner.num_restarts:
        shapes.append(algorithm.sample().reward.shape)
    return shapes


def fail(runner):
    raise EnvError("the simulator lost its licence")


def test_calls_and_rollouts_under_way_do_not_take_each_others_answers(pair, monkeypatch):
    pair.submit(2)
    pids = pair.call_each(lambda runner: os.getpid())
    assert len(set(pids)) == 2
    pair.submit(3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pair.group, "_listen", interrupted)
        pair.call_each(lambda runner: os.getpid())
    samples = []
    while pair.group.num_pending:
        samples += pair.arrived()
    assert [sample.rollout.reward.shape for sample in samples] == [(10, 2)] * 10
    assert {processes(sample.rollout)[0] for sample in samples} == set(pids)


@pytest.mark.learning
def test_what_is_interrupted_half_way_costs_a_runner_and_no_answer_is_anothers(build, monkeypatch):
    runner = build(num_runners=1).env_runner

    def sample_after(patched, name, replacement):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(patched, name, replacement)
            runner.call_each(os.getpid)
        with pytest.warns(UserWarning, match="Env runner 0 is replaced"):
            assert runner.sample().reward.shape == (10, 2)
        assert runner.call_each(lambda runner: "mine") == ["mine"]

    send, receive = Line.send, Line.receive
    sample_after(Line, "send", lambda *arguments: (send(*arguments), interrupted()))
    sample_after(Line, "receive", lambda *arguments: (receive(*arguments), interrupted()))
    assert runner.num_restarts == 2


def test_requests_that_cannot_be_written_or_read_change_nothing(pair, tmp_path, monkeypatch):
    with pytest.raises(TypeError, match="lock"):
        pair.group.call_each([os.getpgid, threading.Lock().acquire])
    (tmp_path / "only_here.py").write_text("def function(runner):\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="only_here"):
        pair.call_each(importlib.import_module("only_here").function)
    pair.submit(1)
    samples = []
    while pair.group.num_pending:
        samples += pair.arrived()
    assert [sample.rollout.reward.shape for sample in samples] == [(10, 2)] * 2
    assert pair.num_restarts == 0


def test_an_algorithm_that_is_dropped_ends_its_processes():
    algorithm = config(num_runners=1).build()
    (pid,) = algorithm.foreach_env_runner(lambda runner: os.getpid())
    del algorithm
    gc.collect()
    deadline = time.monotonic() + 20.0
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.1)


def test_a_call_waits_no_longer_for_a_runner_that_hangs_than_a_rollout_would(build, tmp_path):
    runner = build(folder=str(tmp_path), fault="hang", fault_at=5, settings={"sample_timeout_s": 1.0}).env_runner
    runner.submit(1)
    with pytest.warns(UserWarning, match="is replaced: .* did not answer for sample_timeout_s=1 seconds"):
        assert len(runner.call_each(lambda runner: time.sleep(1.5))) == 1, "that itself may take as long as it likes"
    assert len(runner.arrived()) == 1


def test_what_cannot_be_sent_back_is_told(pair):
    with pytest.raises(WorkerError, match="LockedError: a lock"):
        pair.call_each(raise_locked)
    with pytest.raises(TypeError, match="lock"):
        pair.call_each(lambda runner: threading.Lock())
    assert pair.sample().reward.shape == (10, 4)


class LockedError(Exception):
    def __init__(self):
        super().__init__("a lock")
        self.lock = threading.Lock()


def raise_locked(runner):
    raise LockedError


@pytest.mark.learning
def test_a_process_killed_from_outside_costs_nothing_but_its_own_rollout(build):
    algorithm = build()
    algorithm.sample()
    (pid, other) = algorithm.foreach_env_runner(lambda runner: os.getpid())
    os.kill(pid, signal.SIGKILL)
    rollout = algorithm.sample()
    assert set(processes(rollout)) == {other}
    until_full(algorithm)
    assert algorithm.env_runner.num_restarts == 1


def test_runners_that_may_not_be_replaced_leave_the_others_alone_until_none_is_left(build, tmp_path):
    running = config(folder=str(tmp_path), fault="kill").fault_tolerance(restart_failed_env_runners=False).build()
    with pytest.warns(UserWarning, match="is lost and not replaced"):
        shapes = [running.sample().reward.shape for _ in range(4)]
    assert shapes == [(10, 4)] * 4
    assert running.env_runner.num_restarts == 0
    (pid,) = running.foreach_env_runner(lambda runner: os.getpid())
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerError):
        running.sample()
    with pytest.raises(WorkerError, match="see restart_failed_env_runners"):
        running.sample()
    running.stop()


@pytest.mark.learning
def test_an_env_that_fails_again_and_again_ends_the_run_with_its_own_words(build, tmp_path):
    algorithm = build(fault="raise", fault_at=3, always=True)
    with pytest.raises(EnvError, match="the simulator lost its licence"):
        algorithm.sample()


def test_an_env_that_cannot_be_made_there_says_why_in_one_line(build):
    with pytest.raises(EnvError, match="/opt/simulator/licence.txt") as error:
        build(BrokenEnv)
    assert "ray::" not in str(error.value)
    assert "Traceback" not in str(error.value)
    (note,) = error.value.__notes__
    assert re.fullmatch(r"In the other process: .*remote_envs\.py, line \d+, in __init__", note)


def test_what_cannot_be_sent_to_another_process_is_refused_at_once(build):
    env = LockedEnv()
    with pytest.raises(ConfigError, match=r"environment\.env: .* cannot be sent to another process: .*lock"):
        build(lambda config: env)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_cpus_per_env_runner": 3.0}, r"needs 6 CPU \(num_env_runners=2 times 3\), but the cluster has 4"),
        ({"num_gpus_per_env_runner": 0.5}, r"needs 1 GPU \(num_env_runners=2 times 0.5\), but the cluster has 0"),
        (
            {"custom_resources_per_env_runner": {"simulator": 2.0}},
            r"needs 4 simulator \(num_env_runners=2 times 2\), but .* has 2",
        ),
    ],
)
def test_more_resources_than_there_are_is_an_error_at_once(build, settings, message):
    start = time.monotonic()
    with pytest.raises(ConfigError, match=message):
        build(settings=settings)
    assert time.monotonic() - start < 5.0


def interrupted(*arguments):
    raise KeyboardInterrupt


def broken_env(runner):
    def step(action):
        raise EnvError("the simulator lost its licence")

    runner.env.step = step


def test_evaluation_runners_share_the_episodes_and_may_die_fail_or_be_interrupted(monkeypatch):
    running = config(num_runners=1, pause=0.02).evaluation(evaluation_num_env_runners=2).build()
    running.train()
    assert running.evaluate(num_episodes=7)["evaluation/num_episodes"] == 7
    pids = running.evaluator.runner.call_each(lambda runner: os.getpid())
    threading.Timer(0.1, os.kill, (pids[0], signal.SIGKILL)).start()
    result = running.evaluate(num_episodes=9)
    assert result["evaluation/num_episodes"] == 9
    assert result["evaluation/episode_return_mean"] == 5.0
    runner = running.evaluator.runner
    for call in (running.evaluate, runner.sample):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(runner.group, "collect", interrupted)
            running.evaluate()
        assert runner.group.num_pending, "answers that nobody waits for"
        call()
    runner.group.wait_for_all()
    runner.call_each(broken_env)
    monkeypatch.setattr(runner_group, "MAX_FAILURES", 1)
    with pytest.raises(EnvError, match="the simulator lost its licence"):
        running.evaluate(num_episodes=9)
    assert running.evaluate(num_episodes=9)["evaluation/num_episodes"] == 9, "an error is told once"
    running.stop()


@pytest.mark.parametrize(
    ("unit", "count"),
    [pytest.param("episodes", 13, marks=pytest.mark.learning), ("timesteps", 1011)],
    ids=["13 episodes", "1011 steps"],
)
def test_evaluation_beside_training_is_exact_and_of_the_weights_before(unit, count):
    made = config("CartPole-v1", num_runners=1, num_envs=4, num_steps=64).env_runners(num_env_runners=0)
    made.evaluation(
        evaluation_interval=1,
        evaluation_num_env_runners=1,
        evaluation_parallel_to_training=True,
        evaluation_duration=count,
        evaluation_duration_unit=unit,
    )
    running = made.build()
    results = [running.train() for _ in range(2)]
    for result in results:
        key = "evaluation/num_episodes" if unit == "episodes" else "evaluation/num_env_steps"
        assert result[key] == count
    assert [result["evaluation/training_iteration"] for result in results] == [1, 2]
    assert running.evaluator.runner.policies["default"].version == 1
    made.evaluation(evaluation_duration="auto", evaluation_duration_unit="episodes")
    running.stop()
    longest = made.build()
    assert longest.train()["evaluation/num_episodes"] >= 4
    with pytest.raises(ConfigError, match="lasts as long as the training"):
        longest.evaluate()
    assert longest.evaluate(num_episodes=3)["evaluation/num_episodes"] == 3
    longest.stop()


@pytest.mark.learning
def test_a_checkpoint_goes_on_with_another_number_of_runners(tmp_path):
    def make(num_runners):
        made = config(ObservationIsTimeEnv, num_runners=num_runners, num_envs=2, num_steps=6)
        return made.env_runners(env_to_module_connector=(CountSteps(),)).build()

    first = make(2)
    for _ in range(2):
        first.train()
    seen = float(first.policy.shared[0][0])
    path = first.save(tmp_path / "two")
    twin = make(2)
    twin.restore(path)
    assert np.array_equal(first.sample().obs, twin.sample().obs), "each runner goes on where it was"
    first.stop()
    twin.stop()
    local = Algorithm.from_checkpoint(path, allow={"test_remote_runner"})
    local.stop()
    for num_runners in (0, 1):
        made = config(ObservationIsTimeEnv, num_runners=max(1, num_runners), num_envs=2, num_steps=6)
        other = made.env_runners(num_env_runners=num_runners, env_to_module_connector=(CountSteps(),)).build()
        other.restore(path)
        assert other.env_steps == 48
        assert float(other.policy.shared[0][0]) == seen
        assert other.train()["env_steps"] == 48 + 12 * max(1, num_runners)
        other.stop()


@pytest.mark.learning
def test_runners_can_be_added_and_removed_during_a_run(build):
    algorithm = build()
    algorithm.train()
    algorithm.env_runner.resize(3)
    algorithm.env_runner.group.wait_for_all()
    assert algorithm.sample().reward.shape == (10, 6)
    algorithm.env_runner.resize(1)
    assert algorithm.sample().reward.shape == (10, 2)
    assert algorithm.train()["env_runners/num_healthy_env_runners"] == 1


def test_off_policy_algorithms_sample_remotely_while_they_learn():
    algorithm = (
        DQNConfig()
        .environment("CartPole-v1")
        .env_runners(num_env_runners=2, num_envs_per_env_runner=2)
        .training(num_steps_sampled_before_learning_starts=100, train_batch_size_per_learner=8, overlap_sampling=True)
        .reporting(min_sample_timesteps_per_iteration=200)
        .rl_module(model_config=SMALL)
        .build()
    )
    results = [algorithm.train() for _ in range(2)]
    algorithm.stop()
    assert results[-1]["learner/default/num_gradient_steps"] > 10
    stored, steps = results[-1]["learner/default/replay_size"], results[-1]["env_steps"]
    assert stored == steps - 16, "the newest rollout came while it learned"
