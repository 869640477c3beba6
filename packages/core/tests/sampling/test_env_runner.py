import functools

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from runners import SEED, make_runner
from stateful_connectors import FrameStack, NegateReward, RepeatAction, RunningMean, SwapActions

from rl_core import RLModule
from rl_core.algorithms.ppo import PPOSettings, prepare
from rl_core.connect.required import ActionToEnv
from rl_core.env.spaces import same_space
from rl_core.errors import CheckpointError, EnvError
from rl_core.module.spec import ModuleSpec
from rl_core.records import Weights
from rl_core.testing.envs import (
    BufferEnv,
    CountdownEnv,
    ImageEnv,
    LeavingSpaceEnv,
    NanRewardEnv,
    NestedEnv,
    ObservationIsTimeEnv,
    RaisingEnv,
)

MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED]


def true_steps(slot, count, length=3, spread=3):
    """What `ObservationIsTimeEnv` does in one slot: (obs, reward, terminated, truncated, true next obs)."""
    episode, time, steps = SEED + slot, 0, []
    for _ in range(count):
        obs, time = [time, episode], time + 1
        done, cut = time >= length + episode % spread, episode % 3 == 0
        steps.append((obs, float(time), done and not cut, done and cut, [time, episode]))
        if done:
            episode, time = episode + 1, 0
    return steps


def real_steps(rollouts, slot):
    """The same, read out of rollouts."""
    steps = []
    for rollout in rollouts:
        final = {int(index): place for place, index in enumerate(rollout.final_index)}
        num_steps, num_slots = rollout.reward.shape
        for time in range(num_steps):
            if rollout.valid is not None and not rollout.valid[time, slot]:
                continue
            place = final.get(time * num_slots + slot)
            following = rollout.obs[time + 1, slot] if place is None else rollout.final_obs[place]
            steps.append(
                (
                    rollout.obs[time, slot].tolist(),
                    rollout.reward[time, slot].item(),
                    bool(rollout.terminated[time, slot]),
                    bool(rollout.truncated[time, slot]),
                    following.tolist(),
                )
            )
    return steps


@pytest.mark.parametrize(
    ("mode", "env"),
    # gymnasium's own SyncVectorEnv hands out the buffer of such an env as final_obs after overwriting it in SAME_STEP.
    [(mode, ObservationIsTimeEnv) for mode in (None, *MODES)] + [(mode, BufferEnv) for mode in (None, *MODES[1:])],
)
def test_rollouts_hold_what_the_env_did_in_every_autoreset_mode(mode, env):
    runner = make_runner(env, mode=mode)
    rollouts = [runner.sample() for _ in range(6)]
    for slot in range(3):
        steps = real_steps(rollouts, slot)
        assert steps == true_steps(slot, len(steps))
        assert len(steps) == 42 or mode is AutoresetMode.NEXT_STEP


@settings(max_examples=25)
@given(
    mode=st.sampled_from(MODES),
    num_envs=st.integers(1, 3),
    num_steps=st.integers(1, 9),
    length=st.integers(1, 4),
    spread=st.integers(1, 3),
)
def test_rollouts_hold_what_the_env_did_for_any_size(mode, num_envs, num_steps, length, spread):
    make = functools.partial(ObservationIsTimeEnv, length=length, spread=spread)
    runner = make_runner(make, mode=mode, num_envs=num_envs, num_steps=num_steps)
    rollouts, returns = [], []
    for _ in range(4):
        rollouts.append(runner.sample())
        returns += list(zip(runner.episodes.returns, runner.episodes.lengths, strict=True))
    expected = []
    for slot in range(num_envs):
        steps = real_steps(rollouts, slot)
        assert steps == true_steps(slot, len(steps), length, spread)
        time = 0
        for _, _, terminated, truncated, _ in steps:
            time += 1
            if terminated or truncated:
                expected.append((time * (time + 1) / 2, time))
                time = 0
    assert sorted(returns) == sorted(expected)


@pytest.mark.parametrize("mode", [None, *MODES])
def test_a_rollout_begins_where_the_last_one_ended(mode):
    runner = make_runner(BufferEnv, mode=mode)
    first, second = runner.sample(), runner.sample()
    assert torch.equal(first.obs[-1], second.obs[0])


@pytest.mark.parametrize("mode", [None, *MODES])
def test_final_observations_stand_where_episodes_ended_and_ascend(mode):
    runner = make_runner(ObservationIsTimeEnv, mode=mode)
    for _ in range(5):
        rollout = runner.sample()
        done = (rollout.terminated | rollout.truncated).flatten().nonzero().flatten()
        if mode is AutoresetMode.NEXT_STEP:
            assert len(rollout.final_index) == 0
            assert rollout.final_obs is None
        else:
            assert torch.equal(rollout.final_index, done)
            assert (len(done) == 0) == (rollout.final_obs is None)


def test_artificial_steps_are_marked_counted_out_and_never_trained_on():
    runner = make_runner(ObservationIsTimeEnv, mode=AutoresetMode.NEXT_STEP, num_steps=20)
    rollout = runner.sample()
    after_end = torch.zeros_like(rollout.terminated)
    after_end[1:] = (rollout.terminated | rollout.truncated)[:-1]
    assert torch.equal(~rollout.valid, after_end)
    assert rollout.env_steps == int(rollout.valid.sum()) < rollout.reward.numel()
    batch, _ = prepare(runner.policy.module, rollout, PPOSettings())
    assert len(batch.advantage) == rollout.env_steps
    assert sorted(batch.obs.tolist()) == sorted(rollout.obs[:-1][rollout.valid].tolist())


def test_all_steps_are_valid_where_the_env_makes_no_artificial_ones():
    assert make_runner(ObservationIsTimeEnv, num_steps=20).sample().valid is None


def advantages_by_step(mode, *, lambda_=0.95, connectors=()):
    """Advantage of each step of the episodes that ended within one long rollout, by what it was seen on."""
    runner = make_runner(ObservationIsTimeEnv, mode=mode, num_steps=30, connectors=connectors)
    rollout = runner.sample()
    keep = torch.ones_like(rollout.terminated) if rollout.valid is None else rollout.valid
    batch, _ = prepare(runner.policy.module, rollout, PPOSettings(lambda_=lambda_))
    advantage = torch.full(keep.shape, torch.nan)
    advantage[keep] = batch.advantage
    found = []
    for slot in range(3):
        values = advantage[:, slot][keep[:, slot]].tolist()
        done = (rollout.terminated | rollout.truncated)[:, slot][keep[:, slot]].tolist()
        found.append(values[: len(done) - done[::-1].index(True)])
    return found, runner.policy.module


@pytest.mark.parametrize("connectors", [(), (FrameStack(2),)], ids=["plain", "frames"])
def test_advantages_are_the_same_in_every_autoreset_mode(connectors):
    results = [advantages_by_step(mode, connectors=connectors)[0] for mode in (None, *MODES)]
    for other in results[1:]:
        for slot in range(3):
            common = min(len(results[0][slot]), len(other[slot]))
            assert common > 15
            np.testing.assert_allclose(results[0][slot][:common], other[slot][:common], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", [None, *MODES])
def test_the_value_at_a_truncation_is_that_of_the_true_final_observation(mode):
    found, module = advantages_by_step(mode, lambda_=0.0)

    def value(obs):
        return module.forward_value(torch.tensor(obs, dtype=torch.float32)).item()

    num_cut = 0
    for slot in range(3):
        for advantage, (obs, reward, terminated, truncated, following) in zip(
            found[slot], true_steps(slot, len(found[slot])), strict=True
        ):
            expected = reward + 0.99 * (0.0 if terminated else value(following)) - value(obs)
            assert advantage == pytest.approx(expected, abs=1e-4)
            num_cut += truncated
    assert num_cut > 2


@pytest.mark.parametrize("mode", [None, *MODES])
def test_frames_of_a_final_observation_are_those_of_its_own_episode(mode):
    runner = make_runner(ObservationIsTimeEnv, mode=mode, connectors=[FrameStack(3)])
    rollouts = [runner.sample() for _ in range(4)]
    for slot in range(3):
        for obs, reward, _, _, following in real_steps(rollouts, slot):
            episode, time = obs[5], int(reward)
            assert obs == [part for back in (2, 1, 0) for part in (max(time - 1 - back, 0), episode)]
            assert following == [part for back in (2, 1, 0) for part in (max(time - back, 0), episode)]


def test_final_observations_do_not_go_into_running_statistics():
    runner = make_runner(ObservationIsTimeEnv, connectors=[RunningMean()])
    runner.sample()
    (statistics,) = runner.get_weights().connector_state
    assert statistics["count"] == 3 * 8, "the first observation and seven steps of three slots, no final ones"
    plain = make_runner(ObservationIsTimeEnv)
    np.testing.assert_allclose(statistics["mean"], plain.sample().obs.flatten(0, 1).mean(0), rtol=1e-5)


def test_statistics_go_on_over_rollouts_and_into_the_policy():
    runner = make_runner(ObservationIsTimeEnv, connectors=[RunningMean()])
    for rounds in range(1, 4):
        runner.sample()
        assert runner.policy.shared[0]["count"] == 3 * (1 + 7 * rounds)
        assert runner.get_weights().connector_state[0] is runner.policy.shared[0]


def test_new_weights_leave_the_runners_own_statistics_alone_unless_they_bring_some():
    runner = make_runner(ObservationIsTimeEnv, connectors=[RunningMean()])
    runner.sample()
    tensors = dict(runner.policy.module.state_dict())
    runner.set_weights(Weights(version=3, tensors=tensors))
    assert runner.policy.version == 3
    assert runner.policy.shared[0]["count"] == 24
    given = {"count": np.array(100.0), "mean": np.zeros(2)}
    runner.set_weights(Weights(version=4, tensors=tensors, connector_state=(given,)))
    runner.sample()
    assert runner.policy.shared[0]["count"] == 100 + 21


def test_rewards_of_connectors_train_and_those_of_the_env_are_reported():
    runner = make_runner(ObservationIsTimeEnv, connectors=[NegateReward()], num_steps=12)
    plain = make_runner(ObservationIsTimeEnv, num_steps=12)
    assert torch.equal(runner.sample().reward, -plain.sample().reward)
    assert (runner.episodes.returns > 0).all()
    assert runner.episodes.returns.tolist() == plain.episodes.returns.tolist()


@pytest.mark.parametrize("env", [NestedEnv, ImageEnv, functools.partial(gymnasium.make, "Pendulum-v1")])
def test_every_kind_of_space_goes_through_a_rollout(env):
    runner = make_runner(env, num_envs=2, num_steps=9)
    rollout = runner.sample()
    assert rollout.obs.shape[:2] == (10, 2)
    assert rollout.obs.dtype == (torch.uint8 if env is ImageEnv else torch.float32)
    distribution = runner.policy.module.distribution
    log_prob = distribution.log_prob(rollout.behavior_dist_inputs, rollout.action)
    assert log_prob.shape == (9, 2)
    assert log_prob.isfinite().all()


class NestedModule(RLModule):
    """Takes nested observations as they are."""

    flatten_observations = False

    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space)
        self.policy = torch.nn.Linear(2, self.distribution.num_inputs)

    def forward_policy(self, obs, state=()):
        return self.policy(obs["position"]), state

    def forward_value(self, obs, state=()):
        return obs["deep"]["image"].float().flatten(-3).mean(-1)


def test_nested_observations_arrive_as_columns_for_a_module_that_takes_them():
    runner = make_runner(
        NestedEnv, num_envs=2, num_steps=9, spec=ModuleSpec(module_class=NestedModule, model_config={})
    )
    rollout = runner.sample()
    for time in range(10):
        expected = NestedEnv.observation_at(time % 4)
        for slot in range(2):
            np.testing.assert_array_equal(rollout.obs["position"][time, slot], expected["position"])
            assert rollout.obs["mode"][time, slot] == expected["mode"]
            assert rollout.obs["parts"][0][time, slot].tolist() == expected["parts"][0].tolist()
            assert torch.equal(rollout.obs["deep"]["image"][time, slot], torch.tensor(expected["deep"]["image"]))
    assert rollout.obs["deep"]["image"].dtype == torch.uint8
    assert rollout.final_obs["deep"]["image"][:, 0, 0, 0].tolist() == [4] * 4
    assert same_space(runner.policy.obs_chain.output_space, runner.env.observation_space) is None


class Recurrent(RLModule):
    """Its state counts the steps since it was started."""

    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def initial_state(self, batch_size):
        return {"count": torch.zeros(batch_size, 1)}

    def forward_policy(self, obs, state):
        count = state["count"] + 1
        return torch.cat((count, self.weight.expand_as(count)), -1), {"count": count}

    def forward_value(self, obs, state=()):
        return obs[..., 0] * self.weight


@pytest.mark.parametrize("mode", [None, *MODES])
def test_recurrent_state_starts_anew_with_each_episode_and_goes_on_over_rollouts(mode):
    runner = make_runner(ObservationIsTimeEnv, mode=mode, spec=ModuleSpec(module_class=Recurrent, model_config={}))
    for _ in range(4):
        rollout = runner.sample()
        seen = rollout.behavior_dist_inputs[..., 0]
        valid = torch.ones_like(rollout.terminated) if rollout.valid is None else rollout.valid
        assert torch.equal(seen[valid], rollout.obs[:-1, :, 0][valid] + 1)
        count = rollout.state["count"][..., 0]
        assert count.shape == (8, 3)
        assert torch.equal(count[:-1][valid], rollout.obs[:-1, :, 0][valid])
        if rollout.final_obs is not None:
            assert torch.equal(rollout.final_state["count"][:, 0], rollout.final_obs[:, 0])


def test_same_seed_gives_the_same_rollouts_bit_for_bit():
    make = functools.partial(gymnasium.make, "CartPole-v1")
    first, second = make_runner(make), make_runner(make)
    for _ in range(5):
        one, two = first.sample(), second.sample()
        assert torch.equal(one.obs, two.obs)
        assert torch.equal(one.action, two.action)
        assert torch.equal(one.behavior_dist_inputs, two.behavior_dist_inputs)


def test_actions_recorded_are_those_that_were_taken():
    taken = []

    class Watched(CountdownEnv):
        def step(self, action):
            taken.append(int(action))
            return super().step(action)

    rollout = make_runner(Watched, num_envs=2).sample()
    assert rollout.action.flatten().tolist() == taken


# What goes wrong ------------------------------------------------------------------------------------------------------


def test_a_reward_that_is_not_finite_is_refused_with_step_and_slot():
    with pytest.raises(EnvError, match=r"reward nan at step 2 of slot 0; rewards must be finite"):
        make_runner(NanRewardEnv).sample()


def test_an_observation_outside_its_space_is_refused_with_step_and_slot():
    with pytest.raises(
        EnvError, match=r"An observation left its space: observation.*step 3, slot 0 is 2.*disable_env_checking"
    ):
        make_runner(LeavingSpaceEnv).sample()


def test_the_checks_of_values_can_be_switched_off():
    assert make_runner(NanRewardEnv, check_values=False).sample().reward.isnan().any()
    make_runner(LeavingSpaceEnv, check_values=False).sample()


def test_a_final_observation_outside_its_space_is_refused():
    class LeavesAtTheEnd(CountdownEnv):
        def _obs(self):
            return np.array([np.nan], np.float32) if self.left == 0 else super()._obs()

    with pytest.raises(EnvError, match=r"left its space: observation.* is nan, .* ended at step 4 of slot 0"):
        make_runner(LeavesAtTheEnd).sample()


def test_an_env_that_raises_is_named():
    with pytest.raises(EnvError, match="RuntimeError.*the simulator crashed"):
        make_runner(RaisingEnv).sample()


# State ----------------------------------------------------------------------------------------------------------------


def rollouts_equal(one, two):
    return all(
        torch.equal(getattr(one, name), getattr(two, name))
        for name in ("obs", "action", "reward", "terminated", "truncated", "behavior_dist_inputs", "final_index")
    )


@pytest.mark.parametrize("connectors", [(), (FrameStack(2), RunningMean())], ids=["plain", "stateful"])
@pytest.mark.parametrize("mode", [None, *MODES])
def test_a_restored_runner_goes_on_bit_for_bit_in_the_middle_of_episodes(mode, connectors):
    runner, twin = (make_runner(ObservationIsTimeEnv, mode=mode, connectors=connectors) for _ in range(2))
    runner.sample()
    state, taken = runner.get_state(), []
    twin.sample()
    twin.sample()
    twin.set_state(state)
    for _ in range(3):
        one, two = runner.sample(), twin.sample()
        assert rollouts_equal(one, two)
        assert runner.episodes.returns.tolist() == twin.episodes.returns.tolist()
        taken += runner.episodes.lengths.tolist()
    assert taken
    assert max(taken) <= 5


def test_without_the_envs_state_new_episodes_begin_and_nothing_is_left_of_the_old_ones():
    runner = make_runner(ObservationIsTimeEnv, connectors=[FrameStack(2)])
    runner.sample()
    seed = runner.seed
    runner.set_state({**runner.get_state(), "env": None})
    rollout = runner.sample()
    assert (rollout.obs[0, :, 2] == 0).all(), "time is 0"
    assert torch.equal(rollout.obs[0, :, :2], rollout.obs[0, :, 2:]), "no old frames"
    assert runner.episodes.lengths.max() <= 5
    assert runner.seed != seed, "not the same first episodes again"


def test_a_state_of_another_number_of_slots_keeps_the_statistics():
    runner, other = (make_runner(CountdownEnv, num_envs=n, connectors=[RunningMean()]) for n in (3, 2))
    runner.sample()
    other.set_state(runner.get_state())
    assert other.policy.shared[0]["count"] == 24
    assert other.sample().reward.shape == (7, 2)
    assert other.policy.shared[0]["count"] == 24 + 2 * 8


@pytest.mark.parametrize(
    ("connectors", "message"),
    [
        ((), "of 1 observation connectors, this run has 0"),
        ((FrameStack(4),), "observation connector FrameStack has shapes .* expected"),
        ((RunningMean(),), r"observation connector 0 \(RunningMean\) have shapes"),
    ],
)
def test_a_state_of_other_connectors_is_refused(connectors, message):
    runner = make_runner(ObservationIsTimeEnv, connectors=[FrameStack(2)])
    runner.sample()
    with pytest.raises(CheckpointError, match=message):
        make_runner(ObservationIsTimeEnv, connectors=connectors).set_state(runner.get_state())


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ((), "memory of 2 action connectors, this run has 1"),
        ((SwapActions(),), "memory of the action connector SwapActions has shapes .*, expected"),
    ],
)
def test_a_state_of_other_action_connectors_is_refused(actions, message):
    runner = make_runner(CountdownEnv, actions=[RepeatAction(), ActionToEnv()])
    runner.sample()
    with pytest.raises(CheckpointError, match=message):
        make_runner(CountdownEnv, actions=[*actions, ActionToEnv()]).set_state(runner.get_state())


def test_evaluating_with_the_sampling_runner_begins_new_episodes_afterwards():
    runner = make_runner(ObservationIsTimeEnv)
    runner.sample()
    runner.evaluate(num_episodes=2, seed=1, explore=True)
    rollout = runner.sample()
    assert (rollout.obs[0, :, 0] == 0).all()
    assert runner.episodes.lengths.max() <= 5


# Episodes for callbacks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [None, *MODES])
def test_episodes_given_to_callbacks_are_what_the_env_did(mode):
    episodes = []
    runner = make_runner(ObservationIsTimeEnv, mode=mode, on_episode_end=episodes.append)
    returns = []
    for _ in range(5):
        runner.sample()
        returns += runner.episodes.returns.tolist()
    assert [episode.episode_return for episode in episodes] == returns
    for slot in range(3):
        mine = [episode for episode in episodes if episode.slot == slot]
        steps = true_steps(slot, sum(len(episode.reward) for episode in mine))
        for episode in mine:
            length = len(episode.reward)
            own, steps = steps[:length], steps[length:]
            assert episode.obs.tolist() == [step[0] for step in own] + [own[-1][4]]
            assert episode.reward.tolist() == [step[1] for step in own]
            assert episode.terminated == own[-1][2]
            assert episode.action.shape == (length,)


def test_episodes_of_nested_observations_keep_their_structure():
    episodes = []
    spec = ModuleSpec(module_class=NestedModule, model_config={})
    make_runner(NestedEnv, spec=spec, on_episode_end=episodes.append).sample()
    assert episodes
    for time in range(5):
        expected = NestedEnv.observation_at(time)
        assert episodes[0].obs["mode"][time] == expected["mode"]
        assert episodes[0].obs["parts"][0][time].tolist() == expected["parts"][0].tolist()
    assert set(episodes[0].action) == {"move", "keys", "flags"}


def test_an_episode_cut_by_a_checkpoint_is_given_whole_after_restoring():
    seen = [], []
    runner, twin = (make_runner(ObservationIsTimeEnv, on_episode_end=found.append) for found in seen)
    runner.sample()
    twin.sample()
    twin.sample()
    seen[0].clear()
    seen[1].clear()
    twin.set_state(runner.get_state())
    runner.sample()
    twin.sample()
    assert len(seen[0]) == len(seen[1]) > 0
    for one, two in zip(*seen, strict=True):
        assert one.obs.tolist() == two.obs.tolist()
        assert one.reward.tolist() == two.reward.tolist()


def test_spaces_of_the_helpers_are_what_these_tests_take_them_for():
    assert ObservationIsTimeEnv().observation_space.shape == (2,)
    assert isinstance(ObservationIsTimeEnv().action_space, spaces.Discrete)
