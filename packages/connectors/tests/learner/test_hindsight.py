from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollout_maker import bound, make_rollout, random_rollout, real, true_next

from rl_connectors.learner.hindsight import HindsightRelabel
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.records import History
from rl_core.replay.buffer import ReplayBuffer

GOAL = spaces.Box(-np.inf, np.inf, (1,))
SPACE = spaces.Dict({"observation": spaces.Box(-9, 9, (2,)), "achieved_goal": GOAL, "desired_goal": GOAL})


def near(achieved, desired):
    return -(np.abs(achieved - desired).sum(-1) > 0.5).astype(np.float32)


def reached(achieved, desired):
    return np.abs(achieved - desired).sum(-1) <= 0.5


def walk(achieved, **settings):
    """A rollout in which the goals achieved are `[T + 1, B]`, and 99 is desired."""
    achieved = np.array(achieved, np.float32)[..., np.newaxis]
    obs = {"observation": np.zeros((*achieved.shape[:2], 2), np.float32)}
    return make_rollout(obs | {"achieved_goal": achieved, "desired_goal": np.full_like(achieved, 99)}, **settings)


def seen(achieved, desired=99.0):
    """One observation."""
    return {
        "observation": np.zeros(2, np.float32),
        "achieved_goal": np.float32([achieved]),
        "desired_goal": np.float32([desired]),
    }


def relabel(rollout, space=SPACE, seed=0, **settings):
    piece, state = bound(HindsightRelabel(near, **settings), space, seed=seed)
    return piece(state, rollout)


def test_the_final_goal_of_a_segment_is_what_its_last_step_achieved():
    rollout = walk([[0], [1], [2], [50], [51]], truncated=[(1, 0)], finals=[((1, 0), seen(7))])
    _, after, report = relabel(rollout, strategy="final", num_copies=1)
    assert after.obs["desired_goal"][..., 1, 0].tolist() == [7, 7, 51, 51, 51]
    assert after.obs["achieved_goal"][..., 1, 0].tolist() == [0, 1, 2, 50, 51]
    assert after.reward[:, 1].tolist() == [-1, 0, -1, 0]
    assert after.truncated[:, 1].tolist() == [False, True, False, True]
    assert not after.terminated.any()
    assert after.valid.all()
    assert after.final_index.tolist() == [2, 3]
    assert after.final_obs["achieved_goal"].ravel().tolist() == [7, 7]
    assert after.final_obs["desired_goal"].ravel().tolist() == [99, 7]
    assert report == {"relabelled_share": 1.0}


def test_a_future_goal_ends_the_copy_of_the_segment_where_it_was_reached():
    rollout = walk([[0], [1], [2], [3], [4]])
    ends = set()
    for seed in range(20):
        _, after, _ = relabel(rollout, num_copies=1, seed=seed)
        goal = after.obs["desired_goal"][0, 1].item()
        assert after.obs["desired_goal"][:, 1].eq(goal).all()
        end = int(goal) - 1  # step t achieves t + 1
        assert after.valid[:, 1].tolist() == [t <= end for t in range(4)]
        assert after.truncated[:, 1].tolist() == [t == end for t in range(4)]
        assert after.reward[:, 1].tolist() == [-1.0 if t < end else 0.0 for t in range(4)]
        assert after.final_index.tolist() == []
        assert after.final_obs is None
        ends.add(end)
    assert ends == {0, 1, 2, 3}


def test_a_goal_reached_before_terminates_there():
    rollout = walk([[0], [5], [2], [5]], terminated=[(2, 0)])
    piece, state = bound(HindsightRelabel(near, num_copies=1, strategy="final", terminated_fn=reached), SPACE)
    _, after, _ = piece(state, rollout)
    assert after.terminated[:, 1].tolist() == [True, False, False]
    assert after.valid[:, 1].tolist() == [True, False, False]
    assert not after.truncated[:, 1].any()


def test_without_a_function_the_env_says_what_terminates():
    rollout = walk([[0], [5], [2], [5]], terminated=[(2, 0)])
    _, after, _ = relabel(rollout, num_copies=1, strategy="final")
    assert after.terminated[:, 1].tolist() == [False, False, True]
    assert not after.truncated[:, 1].any()


def test_the_sampled_slots_stay_as_they_are():
    rollout = random_rollout(SPACE)
    before = rollout.obs["desired_goal"].clone(), rollout.reward.clone()
    _, after, _ = relabel(rollout)
    assert after.reward.shape == (30, 15)
    assert after.env_steps == rollout.env_steps
    assert torch.equal(rollout.obs["desired_goal"], before[0])
    assert torch.equal(rollout.reward, before[1])
    for name in ("reward", "terminated", "truncated", "valid", "action", "behavior_dist_inputs"):
        assert torch.equal(getattr(after, name)[:, :3], getattr(rollout, name))
    for key, column in rollout.obs.items():
        assert torch.equal(after.obs[key][:, :3], column)
        own = after.final_index % 15 < 3
        assert torch.equal(after.final_obs[key][own], rollout.final_obs[key])
    assert (after.final_index.diff() > 0).all()


def literal_segments(rollout):
    """Lists of the steps of each slot's segments, with whether the rollout's end is their only end."""
    segments = []
    finals = set(rollout.final_index.tolist())
    num_steps, num_slots = rollout.reward.shape
    steps = set(real(rollout))
    for b in range(num_slots):
        run = []
        for t in range(num_steps):
            if (t, b) not in steps:
                continue
            run.append((t, b))
            done = rollout.terminated[t, b] or rollout.truncated[t, b] or t * num_slots + b in finals
            if done or (t + 1, b) not in steps:
                segments.append(run)
                run = []
    return segments


@pytest.mark.parametrize("strategy", ["future", "final"])
@pytest.mark.parametrize("terminated_fn", [None, reached])
def test_copies_agree_with_a_literal_account(strategy, terminated_fn):
    for seed in range(4):
        rollout = random_rollout(SPACE, seed=seed)
        num_copies = 3 if strategy == "future" else 1
        settings = {"num_copies": num_copies, "strategy": strategy, "terminated_fn": terminated_fn}
        _, after, _ = relabel(rollout, seed=seed, **settings)
        for copy in range(1, num_copies + 1):
            check_copy(rollout, after, copy * 3, strategy, terminated_fn)


def check_copy(rollout, after, shift, strategy, terminated_fn):
    """Compare one copy with what the docstring promises, step by step."""
    live = set()
    for segment in literal_segments(rollout):
        (start, b) = segment[0]
        goal = after.obs["desired_goal"][start, b + shift].numpy()
        achieved = [true_next(rollout, *step)["achieved_goal"] for step in segment]
        places = [place for place, value in enumerate(achieved) if (value == goal).all()]
        assert places, "the goal was achieved by a step of the segment"
        end = places[-1]
        assert strategy == "future" or end == len(segment) - 1
        terminated = False
        for place, (t, _) in enumerate(segment):
            column = b + shift
            if place > end or terminated:
                assert not after.valid[t, column]
                continue
            live.add((t, b))
            assert after.valid[t, column]
            assert after.obs["desired_goal"][t, column] == goal
            assert after.obs["observation"][t, column].equal(rollout.obs["observation"][t, b])
            assert after.action[t, column] == rollout.action[t, b]
            assert after.reward[t, column] == near(achieved[place], goal)
            expected = true_next(rollout, t, b)
            found = true_next(after, t, column)
            assert (found["observation"] == expected["observation"]).all()
            assert (found["achieved_goal"] == expected["achieved_goal"]).all()
            assert found["desired_goal"] == goal
            terminated = (
                bool(rollout.terminated[t, b]) if terminated_fn is None else bool(terminated_fn(achieved[place], goal))
            )
            assert after.terminated[t, column] == terminated
            assert after.truncated[t, column] == (place == end and not terminated)
    columns = after.valid[:, shift : shift + 3]
    assert int(columns.sum()) == len(live)


def test_copies_can_be_stored_and_drawn_from_a_replay_buffer():
    buffer = ReplayBuffer(100_000, num_slots=15, seed=0)
    piece, state = bound(HindsightRelabel(near), SPACE)
    for seed in range(3):
        rollout = random_rollout(SPACE, seed=seed, with_invalid=False)
        state, after, _ = piece(state, rollout)
        buffer.add(after)
    for n_step in (1, 3):
        drawn = buffer.sample(2000, n_step=n_step, gamma=1.0)
        before, after = (obs["desired_goal"][drawn.index % 15 >= 3] for obs in (drawn.obs, drawn.next_obs))
        assert torch.equal(before, after)
    steps = buffer.sample(2000, n_step=1, gamma=1.0)
    relabelled = steps.index % 15 >= 3
    goals = [steps.next_obs[key][relabelled].numpy() for key in ("achieved_goal", "desired_goal")]
    assert (steps.reward[relabelled].numpy() == near(*goals)).all()
    assert (steps.reward[relabelled] == 0).float().mean() > 0.2


def test_goals_may_be_numbers():
    space = spaces.Dict({key: spaces.Discrete(5) for key in ("observation", "achieved_goal", "desired_goal")})
    piece, state = bound(HindsightRelabel(equal_numbers), space)
    _, after, _ = piece(state, random_rollout(space))
    assert after.obs["desired_goal"].dtype == torch.int64
    live = after.valid[:, 3:]
    assert set(after.reward[:, 3:][live].tolist()) == {0.0, 1.0}


def equal_numbers(achieved, desired):
    return achieved == desired


def test_goals_differ_from_rollout_to_rollout_and_with_the_seed():
    rollout = random_rollout(SPACE)
    state, one, _ = relabel(rollout)
    piece, _ = bound(HindsightRelabel(near), SPACE)
    same, again, other = relabel(rollout)[1], piece(state, rollout)[1], relabel(rollout, seed=1)[1]
    assert torch.equal(one.obs["desired_goal"], same.obs["desired_goal"])
    assert not torch.equal(one.obs["desired_goal"], again.obs["desired_goal"])
    assert not torch.equal(one.obs["desired_goal"], other.obs["desired_goal"])


@pytest.mark.parametrize(
    ("space", "match"),
    [
        (GOAL, "takes Dict observations with the keys"),
        (spaces.Dict({"achieved_goal": GOAL, "goal": GOAL}), "takes Dict observations with the keys"),
        (spaces.Dict({"achieved_goal": GOAL, "desired_goal": spaces.Discrete(2)}), "must be alike"),
    ],
)
def test_observations_without_goals_are_refused(space, match):
    with pytest.raises(UnsupportedSpaceError, match=match):
        HindsightRelabel(near).bind(space, spaces.Discrete(2))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"num_copies": 0}, "num_copies: got 0"),
        ({"strategy": "episode"}, "expected 'future' or 'final'"),
        ({"strategy": "final"}, "expected 1 with strategy='final'"),
        ({"terminated_fn": 3}, "terminated_fn: got 3"),
        ({"reward_fn": None}, "reward_fn: got None"),
    ],
)
def test_settings_out_of_range_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        HindsightRelabel(**{"reward_fn": near, **settings})


def test_a_reward_function_that_is_not_batched_is_refused():
    piece, state = bound(HindsightRelabel(summed), SPACE)
    with pytest.raises(ConfigError, match=r"reward_fn gave an array of shape \(\) for achieved goals"):
        piece(state, random_rollout(SPACE))


def summed(achieved, desired):
    return np.abs(achieved - desired).sum()


def test_rollouts_with_memory_are_refused():
    piece, state = bound(HindsightRelabel(near), SPACE)
    rollout = random_rollout(SPACE)
    with pytest.raises(ConfigError, match="HindsightRelabel: got a rollout of a recurrent module"):
        piece(state, replace(rollout, state=torch.zeros(31, 3, 5)))
    history = History(slots=(np.zeros((3, 4, 3)),), first=np.zeros((31, 3), bool))
    with pytest.raises(ConfigError, match="remembers"):
        piece(state, replace(rollout, history=history))
