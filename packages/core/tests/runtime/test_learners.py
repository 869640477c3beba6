"""Learners in other processes: real ones, with real faults."""

import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
import ray
import small_learners
import torch
from small_learners import config, flat, plain_descent

from rl_core import A2CConfig, APPOConfig, Callbacks, LearnerConnector, SACConfig
from rl_core.errors import ConfigError, WorkerError
from rl_core.runtime.learner_actor import Layout, LearnerActor
from rl_core.runtime.packing import pack, unpack

pytestmark = pytest.mark.usefixtures("cluster")
for module in (small_learners, sys.modules[__name__]):
    ray.cloudpickle.register_pickle_by_value(module)


class CountUpdates(Callbacks):
    def on_learner_update_end(self, *, learner, result, metrics):
        metrics.log_value("updates", 1, reduce="sum")
        metrics.log_value("process", os.getpid(), reduce="max")


def pids(algorithm):
    handles = algorithm._learner_group._handles
    return ray.get([handle.__ray_call__.remote(lambda actor: os.getpid()) for handle in handles])


@ray.remote(num_cpus=0)
class Host:
    """A process for one learner after the other: starting one takes seconds."""

    def build(self, config, layout):
        if hasattr(self, "actor"):
            self.actor.leave()
        self.actor = LearnerActor(config, layout)
        return self.actor.setup()

    def call(self, method, *arguments):
        return getattr(self.actor, method)(*arguments)


@pytest.fixture(scope="module")
def hosts():
    made = [Host.remote() for _ in range(2)]
    yield made
    for host in made:
        ray.kill(host)


def on_both(hosts, method, arguments):
    return ray.get([host.call.remote(method, *own) for host, own in zip(hosts, arguments, strict=True)])


def learners_of(hosts, config, runner):
    """Make the learners of a config in both processes."""
    layout = Layout(policies=dict(runner.policies), layout=runner.layout)
    ray.get([host.build.remote(config.copy().learners(num_learners=2), layout) for host in hosts])
    address = ray.get(hosts[0].call.remote("open_store"))
    on_both(hosts, "meet", [(rank, 2, address) for rank in range(2)])


def learn_together(hosts, runner, rollout):
    """Let both learn from their shares; returns the figures of each and the weights of the first."""
    answers = on_both(hosts, "update", [(pack(part).joined(),) for part in runner.split(rollout, 2)])
    updates = [unpack(answer) for answer in answers]
    return [update.metrics for update in updates], updates[0].weights


def replaying():
    given = SACConfig().environment("Pendulum-v1").env_runners(num_envs_per_env_runner=2)
    given.training(num_steps_sampled_before_learning_starts=4).reporting(min_sample_timesteps_per_iteration=20)
    return given.rl_module(model_config={"fcnet_hiddens": (8,)})


LSTM = {"use_lstm": True, "lstm_cell_size": 8, "max_seq_len": 4}
SAME = {"num_epochs": 1, "grad_clip": None}


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ({}, {}),
        ({}, {"normalize_advantage": False, "gradient_accumulation_steps": 3}),
        (LSTM, {}),
        (LSTM, {"gradient_accumulation_steps": 2}),
        ({}, {"precision": "bfloat16-mixed"}),
        ({}, {"precision": "float16-mixed"}),
    ],
    ids=["mlp", "pieces", "lstm", "lstm in pieces", "bfloat16", "float16"],
)
@pytest.mark.parametrize("num_envs", [4, 3])
def test_two_learners_on_shares_learn_as_one_on_the_whole(build, hosts, model, settings, num_envs):
    given = config(num_learners=0, num_envs=num_envs, batch=num_envs * 16, **SAME, **settings)
    given.learners(optimizer_fn=plain_descent).rl_module(model_config=model)
    one = build(given)
    learners_of(hosts, given, one.env_runner)
    before, rollout = flat(one.learner.weights()), one.env_runner.sample()
    for _ in range(12):  # float16 leaves out steps until the factor of its losses has come down
        figures = one.learner.update(rollout)
        together, weights = learn_together(hosts, one.env_runner, rollout)
        moved, moved_together = (flat(own) - before for own in (one.learner.weights(), weights))
        if moved.any():
            break
    half = "precision" in settings
    assert moved.abs().max() > 1e-4
    torch.testing.assert_close(moved_together, moved, **({"atol": 1e-2, "rtol": 5e-2} if half else {}))
    for name, figure in figures.items():
        if not name.endswith("explained_variance"):  # of each share
            for own in together:
                assert own[name] == pytest.approx(figure, rel=5e-2 if half else 1e-4, abs=1e-2 if half else 1e-5), name


@pytest.mark.parametrize("kind", [A2CConfig, APPOConfig, SACConfig])
def test_every_algorithm_keeps_the_learners_alike_and_counts_what_all_learned_from(build, hosts, kind):
    given = replaying() if kind is SACConfig else config(kind, num_learners=0)
    one = build(given)
    learners_of(hosts, given, one.env_runner)
    before = flat(one.learner.weights())
    for _ in range(5):
        figures, weights = learn_together(hosts, one.env_runner, one.env_runner.sample())
    states = [unpack(state) for state in on_both(hosts, "get_state", [(["default"],)] * 2)]
    first, second = (state["default"]["tensors"] for state in states)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(flat(weights), before)
    assert {state["default"]["learner"]["env_steps"] for state in states} == {5 * one.env_runner.sample().env_steps}
    if kind is SACConfig:
        assert [own["learner/default/replay_size"] for own in figures] == [10, 10]


def test_runners_and_learners_work_together_and_callbacks_hear_both(build):
    given = config(num_envs=2).env_runners(num_env_runners=2).callbacks(callbacks_class=CountUpdates)
    algorithm = build(given)
    result = algorithm.train()
    assert result["env_steps"] == 64
    assert result["updates"] == 2
    assert result["process"] == max(pids(algorithm))


def test_a_learner_that_is_killed_is_replaced_and_the_others_state_goes_on(build):
    algorithm = build(config())
    algorithm.train()
    before = flat(algorithm.learner.weights())
    victim, survivor = pids(algorithm)
    os.kill(victim, signal.SIGKILL)
    with pytest.warns(UserWarning, match="1 of 2 learners are replaced"):
        result = algorithm.train()
    assert result["learner/num_restarts"] == 1
    assert result["env_steps"] == 128, "what was sampled counts"
    assert np.isnan(result["learner/default/policy_loss"])
    torch.testing.assert_close(flat(algorithm.learner.weights()), before, atol=0.05, rtol=0.0)
    result = algorithm.train()
    assert np.isfinite(result["learner/default/policy_loss"])
    assert survivor in pids(algorithm)
    assert victim not in pids(algorithm)
    first, second = map(unpack, ray.get([handle.weights.remote() for handle in algorithm._learner_group._handles]))
    assert torch.equal(flat(first), flat(second))


@pytest.mark.learning
def test_a_learner_that_hangs_is_replaced(build):
    algorithm = build(config().learners(learner_timeout_s=2.0))
    algorithm.train()
    victim = pids(algorithm)[1]
    os.kill(victim, signal.SIGSTOP)
    try:
        with pytest.warns(UserWarning, match="1 of 2 learners are replaced"):
            algorithm.train()
    finally:
        with suppress(ProcessLookupError):  # Ray has ended it
            os.kill(victim, signal.SIGCONT)
    assert np.isfinite(algorithm.train()["learner/default/policy_loss"])


@pytest.mark.learning
def test_the_only_learner_goes_on_from_the_weights_that_it_published(build):
    algorithm = build(config(num_learners=1))
    algorithm.train()
    before, version = flat(algorithm.learner.weights()), algorithm.learner.weights().version
    os.kill(pids(algorithm)[0], signal.SIGKILL)
    with pytest.warns(UserWarning, match="1 of 1 learners"):
        algorithm.train()
    assert torch.equal(flat(algorithm.learner.weights()), before)
    assert algorithm.learner.weights().version == version
    assert algorithm.train()["learner/default/policy_age"] == 0


@pytest.mark.learning
def test_without_restarts_a_lost_learner_ends_the_run(build):
    algorithm = build(config().fault_tolerance(restart_failed_learners=False))
    os.kill(pids(algorithm)[0], signal.SIGKILL)
    with pytest.raises(WorkerError):
        algorithm.train()


def test_a_checkpoint_goes_on_with_another_number_of_learners(build, tmp_path):
    algorithm, alone = build(config()), build(config(num_learners=0))
    algorithm.train()
    algorithm.save(tmp_path / "two")
    alone.restore(tmp_path / "two")
    assert torch.equal(flat(alone.learner.weights()), flat(algorithm.learner.weights()))
    alone.train()
    alone.save(tmp_path / "one")
    algorithm.restore(tmp_path / "one")
    assert torch.equal(flat(alone.learner.weights()), flat(algorithm.learner.weights()))
    assert algorithm._learner_group._env_steps == 128, "the schedules of a learner that is replaced go on from there"
    assert algorithm.train()["learner/default/policy_age"] == 0
    assert algorithm.env_steps == 192


@dataclass(frozen=True)
class SumRewards(LearnerConnector):
    """Rollouts as they are; its state is the sum of all rewards."""

    def initial_state(self, seed):
        return {"sum": 0.0}

    def __call__(self, state, rollout):
        return {"sum": state["sum"] + float(rollout.reward.sum())}, rollout, {}


def test_learners_go_on_with_what_each_has_of_its_own(build, tmp_path):
    def own():
        states = ray.get([handle.get_state.remote(["default"]) for handle in algorithm._learner_group._handles])
        return [unpack(state)["default"]["learner"] for state in states]

    def rewards():
        return [state["buffer"]["ring"]["reward"] for state in own()]

    def sums():
        return [state["connectors"][0]["state"]["sum"] for state in own()]

    algorithm, alone = (
        build(replaying().learners(num_learners=number, learner_connector=(SumRewards(),))) for number in (2, 0)
    )
    for _ in range(5):
        before = algorithm.train()
    stored, summed = rewards(), sums()
    assert not torch.equal(*stored)
    assert summed[0] != summed[1]
    path = algorithm.save(tmp_path / "saved")
    algorithm.train()
    assert len(rewards()[0]) > len(stored[0])
    algorithm.restore(path)
    assert all(map(torch.equal, rewards(), stored))
    assert sums() == summed
    os.kill(pids(algorithm)[1], signal.SIGKILL)
    with pytest.warns(UserWarning, match="1 of 2 learners are replaced"):
        algorithm.train()
    first, second = (own[: len(stored[0]) // 2] for own in rewards())
    assert torch.equal(first, second), "the new one begins with a copy"
    size = "learner/default/replay_size"
    assert algorithm.train()[size] > before[size]
    alone.restore(path)
    assert alone.train()[size] < before[size], "one learner has no use for the halves of two"


def test_one_learner_that_replays_goes_on_in_another_process_and_back(build, tmp_path):
    alone, remote = build(replaying()), build(replaying().learners(num_learners=1))
    stored = [alone.train()["learner/default/replay_size"]]
    for number, (run, other) in enumerate(((alone, remote), (remote, alone))):
        other.restore(run.save(tmp_path / str(number)))
        stored.append(other.train()["learner/default/replay_size"])
    assert stored[0] < stored[1] < stored[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_cpus_per_learner": 4.0}, r"needs 8 CPU \(num_learners=2 times 4\), but the cluster has 4"),
        ({"num_gpus_per_learner": 0.25}, r"needs 0.5 GPU \(num_learners=2 times 0.25\), but the cluster has 0"),
    ],
)
def test_more_than_the_cluster_has_is_refused_at_once(settings, message):
    with pytest.raises(ConfigError, match=message):
        config().learners(**settings).build()


def test_fewer_slots_than_learners_are_refused(build):
    runner = build(config(num_learners=0, num_envs=1)).env_runner
    with pytest.raises(ConfigError, match="num_learners=2, but a rollout has 1 env slots"):
        runner.split(runner.sample(), 2)
    with pytest.raises(ConfigError, match="num_learners=2, but a rollout has 1 env slots"):
        config(num_envs=1).build()
