import dataclasses

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_connectors.obs.frame_stack import FrameStack
from rl_connectors.obs.image import ChannelsFirst, ScaleImage
from rl_connectors.obs.mean_std import MeanStdFilter
from rl_connectors.obs.one_hot import OneHotObs
from rl_connectors.obs.previous import PrevActionsPrevRewards
from rl_connectors.obs.time_awareness import TimeAwareness
from rl_core.connect.chain import ObsChain, as_tensor
from rl_core.connect.required import FlattenObs
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.testing.envs import NestedEnv
from rl_core.tree import tree_map, tree_zip

PIECES = [
    OneHotObs(),
    PrevActionsPrevRewards(2, 1),
    MeanStdFilter(keys=("position", "prev_rewards")),
    TimeAwareness(4),
    FrameStack(3, padding="zero"),
    FlattenObs(),
]


def vector_env(mode=AutoresetMode.SAME_STEP):
    return GymVectorEnv(
        SyncVectorEnv([lambda length=length: NestedEnv(length) for length in (3, 5)], autoreset_mode=mode)
    )


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_the_learner_rebuilds_what_sampling_gave_with_several_pieces(mode):
    env = vector_env(mode)
    chain = ObsChain(PIECES, env.observation_space, env.action_space)
    start = chain.rebuilt_from(always=False)
    assert isinstance(chain.pieces[start], TimeAwareness), "what comes before it is cheap to carry"
    state = chain.initial_state(2)
    raw = env.reset(0)
    env.env.action_space.seed(0)
    for _ in range(4):  # begin in the midst of episodes
        state, _ = chain(state, raw, observe=True)
        raw = env.step(env.env.action_space.sample())
    kept, given, firsts, looks = [], [], [], []
    history = None
    for time in range(12):
        if len(raw.final_slots) and kept:
            slots = raw.final_slots
            obs = tree_map(np.array, raw.obs)
            tree_map(lambda leaf, final, at=slots: leaf.__setitem__(at, final), obs, raw.final_obs)
            look = dataclasses.replace(raw, obs=obs, first=np.zeros(2, bool))
            half, part = chain(state, look, stop=start)
            _, whole = chain(half, part, start=start)
            looks += [
                ((time - 1) * 2 + slot, tree_map(lambda x, s=slot: x[s], part.obs), whole.obs[slot]) for slot in slots
            ]
        half, part = chain(state, raw, observe=True, stop=start)
        state, step = chain(half, part, observe=True, start=start)
        history = history or chain.history(state, start, np.zeros((12, 2), bool))
        history.first[time] = step.first
        kept.append(tree_map(np.array, part.obs))
        given.append(step.obs)
        firsts.append(step.first)
        raw = env.step(env.env.action_space.sample())
    obs = tree_map(as_tensor, tree_zip(np.stack, kept))
    final = tree_map(as_tensor, tree_zip(np.stack, [look[1] for look in looks])) if looks else None
    index = np.array([look[0] for look in looks], np.int64)
    rows, last = chain.rebuild(start, history, obs, (final, index))
    assert torch.equal(rows, torch.from_numpy(np.stack(given)))
    if mode is AutoresetMode.SAME_STEP:
        assert len(looks) > 2
        assert torch.equal(last, torch.from_numpy(np.stack([look[2] for look in looks])))


def test_a_chain_says_in_a_table_what_its_pieces_do():
    env = vector_env()
    chain = ObsChain([ScaleImage(), ChannelsFirst(), *PIECES], env.observation_space, env.action_space)
    table = str(chain)
    assert "statistics: count number, mean" in " ".join(table.split())
    for piece in chain.pieces:
        assert type(piece).__name__ in table
    assert "lambda" not in table
