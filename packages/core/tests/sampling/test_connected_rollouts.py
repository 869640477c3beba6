"""What connectors with memory make of rollouts: rebuilt observations, rewards at ends, actions that last, bad ones."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from runners import make_runner
from stateful_connectors import FrameStack, RebuiltFrameStack, RefuseAbove, RepeatAction, RunningMean

from rl_core import ObsConnector, PPOConfig
from rl_core.connect.required import ActionToEnv
from rl_core.errors import BadObservationError, EnvError
from rl_core.learning.learner_chain import LearnerChain
from rl_core.testing.envs import CountdownEnv, ObservationIsTimeEnv

MODES = [None, *AutoresetMode]


def rebuilt(runner, rollout):
    chain = LearnerChain((), runner.policy.obs_chain, runner.policy.action_chain.module_space, seed=0)
    return chain(rollout)[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("before", [(), (RunningMean(),)], ids=["alone", "after statistics"])
def test_the_learner_rebuilds_what_the_module_saw(mode, before):
    plain, raw = (
        make_runner(ObservationIsTimeEnv, mode=mode, connectors=[*before, piece])
        for piece in (FrameStack(3), RebuiltFrameStack(3))
    )
    for _ in range(4):
        expected, carried = plain.sample(), raw.sample()
        assert carried.obs.shape == (8, 3, 2), "single frames travel"
        given = rebuilt(raw, carried)
        assert given.history is None
        assert torch.equal(given.obs, expected.obs)
        assert torch.equal(given.action, expected.action)
        assert (given.final_obs is None) == (expected.final_obs is None)
        if expected.final_obs is not None:
            assert torch.equal(given.final_obs, expected.final_obs)


def test_a_run_with_rebuilt_observations_learns_exactly_the_same():
    results = []
    for piece in (FrameStack(2), RebuiltFrameStack(2)):
        config = (
            PPOConfig()
            .environment(ObservationIsTimeEnv)
            .env_runners(num_envs_per_env_runner=2, env_to_module_connector=(piece,))
            .training(train_batch_size_per_learner=32, minibatch_size=16, num_epochs=2)
        )
        algorithm = config.build()
        results.append([algorithm.train()["learner/default/total_loss"] for _ in range(3)])
    assert results[0] == results[1]


def test_a_restored_runner_goes_on_with_single_frames():
    runner, twin = (make_runner(ObservationIsTimeEnv, connectors=[RebuiltFrameStack(3)]) for _ in range(2))
    runner.sample()
    twin.sample()
    twin.sample()
    twin.set_state(runner.get_state())
    one, two = runner.sample(), twin.sample()
    assert torch.equal(one.obs, two.obs)
    assert torch.equal(rebuilt(runner, one).obs, rebuilt(twin, two).obs)


class RewardOfObs(ObsConnector):
    """The reward is the first number of the observation that the step led to."""

    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        return state, replace(step, reward=step.obs[:, 0].astype(np.float32))


@pytest.mark.parametrize("mode", MODES)
def test_the_reward_of_a_last_step_is_that_of_the_true_last_observation(mode):
    rollout = make_runner(ObservationIsTimeEnv, mode=mode, connectors=[RewardOfObs()], num_steps=20).sample()
    real = torch.ones_like(rollout.terminated) if rollout.valid is None else rollout.valid
    done = rollout.terminated | rollout.truncated
    assert (rollout.reward[done & real] >= 3).all(), "the reward of the env, and its time, at the end"
    assert done.any()


def test_action_connectors_remember_within_an_episode():
    runner = make_runner(CountdownEnv, num_steps=40, actions=[RepeatAction(), ActionToEnv()])
    taken = []
    step = runner.env.step
    runner.env.step = lambda action: (taken.append(np.array(action)), step(action))[1]
    rollout = runner.sample()
    taken = np.stack(taken)
    time = np.arange(40) % 5
    chosen = rollout.action.numpy()
    assert (taken[time % 2 == 0] == chosen[time % 2 == 0]).all()
    for odd in np.flatnonzero(time % 2 == 1):
        assert (taken[odd] == taken[odd - 1]).all()
    assert (taken != chosen).any()


def test_the_memory_of_action_connectors_is_saved():
    runner, twin = (make_runner(CountdownEnv, actions=[RepeatAction(), ActionToEnv()]) for _ in range(2))
    runner.sample()
    twin.set_state(runner.get_state())
    for one, two in zip(runner._state.action_memory[0].values(), twin._state.action_memory[0].values(), strict=True):
        assert torch.equal(one, two)


# Bad observations -----------------------------------------------------------------------------------------------------


def test_a_bad_observation_ends_the_run_and_names_the_slot():
    with pytest.raises(BadObservationError, match=r"Observation of slot 0: 3\.0 is above 2\.0"):
        make_runner(ObservationIsTimeEnv, connectors=[RefuseAbove()]).sample()


def test_bad_first_observations_always_end_the_run():
    with pytest.raises(BadObservationError, match="is above -1"):
        make_runner(ObservationIsTimeEnv, connectors=[RefuseAbove(-1.0)], drop_bad_observations=True).sample()


@pytest.mark.parametrize("mode", MODES)
def test_dropped_observations_train_nothing_and_end_the_segment_before(mode):
    options = {"mode": mode, "num_steps": 30, "num_envs": 2}
    whole = make_runner(ObservationIsTimeEnv, **options)
    runner = make_runner(ObservationIsTimeEnv, connectors=[RefuseAbove(2.0)], drop_bad_observations=True, **options)
    plain, rollout = whole.sample(), runner.sample()
    obs = plain.obs[:, :, 0].numpy().copy()
    after = plain.obs[1:, :, 0].clone()  # the true next time of each step
    if len(plain.final_index):
        after.view(-1)[plain.final_index] = plain.final_obs[:, 0]
    real = torch.ones_like(plain.terminated) if plain.valid is None else plain.valid
    expected = real & (torch.from_numpy(obs[:-1]) <= 2) & (after <= 2)
    assert torch.equal(rollout.valid, expected)
    assert (rollout.obs[:, :, 0] <= 2).all(), "the last good one stands in"
    ends = ~rollout.valid[1:] & rollout.valid[:-1]
    assert (rollout.truncated | rollout.terminated)[:-1][ends].all(), "nothing flows over the gap"
    final = 0 if plain.final_obs is None else int((plain.final_obs[:, 0] > 2).sum())
    assert runner.num_bad_observations == (obs[1:] > 2).sum() + final
    assert runner.episodes.returns.tolist() == whole.episodes.returns.tolist(), "episodes go on in the env"
    assert runner.episodes.lengths.tolist() == whole.episodes.lengths.tolist()


def test_the_memory_of_a_slot_starts_anew_after_a_gap():
    connectors = [RefuseAbove(2.0), FrameStack(2)]
    runner = make_runner(
        ObservationIsTimeEnv, connectors=connectors, drop_bad_observations=True, mode=AutoresetMode.SAME_STEP
    )
    rollout = runner.sample()
    begins = rollout.obs[:, :, 2] == 0
    assert torch.equal(rollout.obs[:, :, 0][begins], rollout.obs[:, :, 2][begins])


@pytest.mark.parametrize("num_steps", [2, 3, 4, 5])
def test_a_restored_runner_drops_what_the_other_does(num_steps):
    options = {"connectors": [RefuseAbove(2.0), FrameStack(2)], "num_steps": num_steps, "num_envs": 2}
    options |= {"drop_bad_observations": True, "mode": AutoresetMode.SAME_STEP}
    runner, resumed = make_runner(ObservationIsTimeEnv, **options), make_runner(ObservationIsTimeEnv, **options)
    gaps = 0
    for _ in range(4):
        runner.sample()
        resumed.set_state(runner.get_state())
        gaps += int(runner._guard.bad.any())
        one, two = runner.sample(), resumed.sample()
        assert (one.valid is None) == (two.valid is None)
        assert one.valid is None or torch.equal(one.valid, two.valid)
        assert torch.equal(one.obs, two.obs)
        assert runner.num_bad_observations == resumed.num_bad_observations
    assert gaps, "some rollout ends in a gap"


def test_the_result_counts_bad_observations():
    config = (
        PPOConfig()
        .environment(ObservationIsTimeEnv)
        .env_runners(env_to_module_connector=(RefuseAbove(2.0),), bad_observations="drop", num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=40, minibatch_size=40, num_epochs=1)
    )
    assert config.build().train()["env_runners/num_bad_observations"] > 0
    assert PPOConfig().environment("CartPole-v1").build().train()["env_runners/num_bad_observations"] == 0


def test_evaluation_goes_on_over_bad_observations_where_training_does():
    options = {"mode": AutoresetMode.SAME_STEP, "num_envs": 2}
    whole = make_runner(ObservationIsTimeEnv, **options).evaluate(num_episodes=4, seed=5, explore=False)
    runner = make_runner(ObservationIsTimeEnv, connectors=[RefuseAbove(2.0)], drop_bad_observations=True, **options)
    episodes = runner.evaluate(num_episodes=4, seed=5, explore=False)
    assert episodes.returns.tolist() == whole.returns.tolist(), "all its steps count"
    with pytest.raises(BadObservationError, match="is above 2"):
        make_runner(ObservationIsTimeEnv, connectors=[RefuseAbove(2.0)], **options).evaluate(
            num_episodes=4, seed=5, explore=False
        )


class Breaks(RewardOfObs):
    def __call__(self, state, step):
        raise IndexError("no such column")


def test_a_piece_that_fails_is_named():
    with pytest.raises(EnvError, match=r"Observation connector 0 \(Breaks\) failed .*Box.*IndexError: no such column"):
        make_runner(ObservationIsTimeEnv, connectors=[Breaks()]).sample()
