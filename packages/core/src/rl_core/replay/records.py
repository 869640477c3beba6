"""What a replay buffer hands out. N is transitions, S sequences, L their steps; layout as in `rl_core.records`."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from rl_core.records import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Transitions:
    """N independent transitions of one or several steps.

    A value target is `reward + discount * value(next_obs)`, whatever the number of steps and however the episode ended.

    Example (one CartPole transition of 3 steps, gamma 0.9, the episode goes on):
        `Transitions(obs=f32[1, 4], action=[1], reward=[2.71], next_obs=f32[1, 4], discount=[0.729], index=[17],
        weight=[1.0])`
    """

    obs: Tree
    """`[N, ...]`: what the first action was chosen on."""
    action: Tree
    """`[N, ...]`: the first action."""
    reward: Tensor
    """`[N]` float32: `sum of gamma**i * reward_i` over the k steps."""
    next_obs: Tree
    """`[N, ...]`: the observation after the k steps; the true final one where the episode ended."""
    discount: Tensor
    """`[N]` float32: `gamma**k`, and 0 where the episode terminated within the k steps."""
    index: Tensor
    """`[N]` int64: place in the buffer, for `ReplayBuffer.update_priorities`."""
    weight: Tensor
    """`[N]` float32 in (0, 1]: importance weights divided by their maximum; ones when drawn uniformly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """S pieces of L successive steps, each of one episode; what lies beyond the episode's end is marked not valid.

    Example (one CartPole sequence of 3 steps whose second step terminated):
        `Sequences(obs=f32[4, 1, 4], action=[[0], [1], [1]], reward=[[1], [1], [0]], terminated=[[F], [T], [F]],
        truncated=[[F], [F], [F]], valid=[[T], [T], [F]], state=(), index=[5], weight=[1.0])`
    """

    obs: Tree
    """`[L + 1, S, ...]`: row t + 1 follows the step of row t wherever that step is valid and did not terminate."""
    action: Tree
    """`[L, S, ...]`"""
    reward: Tensor
    """`[L, S]` float32; 0 beyond the end."""
    terminated: Tensor
    """`[L, S]` bool; False beyond the end."""
    truncated: Tensor
    """`[L, S]` bool; False beyond the end."""
    valid: Tensor
    """`[L, S]` bool: False beyond the end of the episode or of what is stored, and at a truncated step whose true next
    observation is not `obs[t + 1]`. Steps that are not valid come last only."""
    state: Tree
    """`[S, ...]`: recurrent state before the first step, as recorded while acting; `()` for a feed-forward module."""
    index: Tensor
    """`[S]` int64: place of the first step, for `ReplayBuffer.update_priorities`."""
    weight: Tensor
    """`[S]` float32 in (0, 1]: importance weights divided by their maximum; ones when drawn uniformly."""
