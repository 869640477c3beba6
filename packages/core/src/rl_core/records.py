"""The records that travel between the stations, one type per station.

Legend of axis letters, used everywhere:
    T time steps, B env slots, N = flattened samples (T * B less what is not valid), K finished episodes,
    P distribution inputs (logits, means, ...), D features, L steps of a segment, S segments.

Layout is time-major `[T, B, ...]` from the vector env to the loss, `[N, ...]` once flattened. Nested observations and
actions are trees (dicts and tuples) of arrays with the same leading axes.

The path: env --Step--> observation connectors --> module --Decision--> action connectors --> env fills a `Rollout`;
`Rollout` --> prepare --`Batch`--> loss --> update --`Weights`--> the module in the runner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int

if TYPE_CHECKING:  # a process that only steps an env needs no torch
    from torch import Tensor

Tree = Any
"""A leaf (numpy array or tensor) or nested dicts and tuples of leaves, all with the same leading axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a vector env says after a reset or a step of all its slots.

    Example (CartPole, 2 slots, the second just fell and was reset):
        `Step(obs=f32[2, 4], reward=[1, 1], terminated=[F, T], truncated=[F, F], first=[F, T],
        artificial=[F, F], final_slots=[1], final_obs=f32[1, 4])`
    """

    obs: Tree
    """`[B, ...]`: the observation the next decision is made on."""
    reward: Float[np.ndarray, "B"]
    """`[B]`: reward of the transition that led here; 0 after a reset."""
    terminated: Bool[np.ndarray, "B"]
    """`[B]`: the episode reached a terminal state, whose value is 0."""
    truncated: Bool[np.ndarray, "B"]
    """`[B]`: the episode was cut (time limit); its value goes on past the end."""
    first: Bool[np.ndarray, "B"]
    """`[B]`: `obs` is the first of an episode: stateful connectors and recurrent states start anew."""
    artificial: Bool[np.ndarray, "B"]
    """`[B]`: the transition is not real (the env ignored the action to reset itself): it never trains."""
    final_slots: Int[np.ndarray, "K"]
    """`[K]`: slots whose episode ended here and whose `obs` already belongs to the next one."""
    final_obs: Tree
    """`[K, ...]`: the true last observation of those slots; None when K is 0."""
    action: Tree = None
    """`[B, ...]`: the env action that led here; None after a reset."""
    infos: Mapping[str, Any] = field(default_factory=dict)
    """The vector env's info arrays, as gymnasium gives them."""
    broken: Bool[np.ndarray, "B"] | None = None
    """`[B]`: the env failed in this step and `obs` is the first of a new one: the step is artificial, and the episode
    before has no end; None where all went well."""

    def with_obs(self, obs: Tree) -> Step:
        """Return the step with other observations, faster than `dataclasses.replace` does."""
        step = object.__new__(Step)
        _FILL["obs"](step, obs)
        _FILL["reward"](step, self.reward)
        _FILL["terminated"](step, self.terminated)
        _FILL["truncated"](step, self.truncated)
        _FILL["first"](step, self.first)
        _FILL["artificial"](step, self.artificial)
        _FILL["final_slots"](step, self.final_slots)
        _FILL["final_obs"](step, self.final_obs)
        _FILL["action"](step, self.action)
        _FILL["infos"](step, self.infos)
        _FILL["broken"](step, self.broken)
        return step


_FILL: dict[str, Any] = {name: Step.__dict__[name].__set__ for name in Step.__slots__}
"""A frozen class's own `__init__` takes three times as long as this, and every connector makes a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a policy says to a batch of observations."""

    action: Tree
    """`[B, ...]`: drawn from the distribution, in the module's terms (before action connectors)."""
    dist_inputs: Float[Tensor, "B P"]
    """`[B, P]`: the distribution's inputs; log-probability, entropy and KL follow from them."""
    state: Tree = ()
    """`[B, ...]`: the module's next recurrent state; `()` for a feed-forward module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a learner needs besides a rollout's observations to work out the module's inputs from them."""

    slots: tuple[Tree, ...]
    """`[B, ...]`: memory of each trailing connector after the observation of row 0."""
    first: Bool[np.ndarray, "T+1 B"]
    """`[T + 1, B]`: an episode begins with the observation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """T steps of B env slots, as an env runner hands them to a learner."""

    obs: Tree
    """`[T + 1, B, ...]`: module inputs; row T is what follows the last step."""
    action: Tree
    """`[T, B, ...]`"""
    reward: Float[Tensor, "T B"]
    """`[T, B]`, after reward connectors."""
    terminated: Bool[Tensor, "T B"]
    """`[T, B]`"""
    truncated: Bool[Tensor, "T B"]
    """`[T, B]`"""
    valid: Bool[Tensor, "T B"] | None
    """`[T, B]`: False where the step was artificial; None when every step is real."""
    final_index: Int[Tensor, "K"]
    """`[K]`: positions `t * B + b` whose true next observation is not `obs[t + 1, b]`, ascending."""
    final_obs: Tree
    """`[K, ...]`: the true next observations at `final_index`; None when K is 0."""
    behavior_dist_inputs: Float[Tensor, "T B P"]
    """`[T, B, P]`: distribution inputs recorded while acting."""
    policy_version: int
    """Version of the `Weights` this was sampled with; age is computed when it is consumed."""
    state: Tree = ()
    """`[T + 1, B, ...]`: the module's recurrent state before each step, new where an episode begins; `()` for a
    feed-forward module."""
    final_state: Tree = ()
    """`[K, ...]`: the recurrent state before `final_obs` is looked at; `()` as above, and when K is 0."""
    env_steps: int
    """Number of real env steps in it: T * B less what is not valid."""
    history: History | None = None
    """Set where `obs` and `final_obs` are not the module's inputs yet but what the trailing connectors got, which the
    learner runs again: frame stacking ships single frames."""
    extras: Mapping[str, Any] = field(default_factory=dict)
    """Free-form columns `[T, B, ...]` of connectors and extensions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Flattened samples ready for a policy-gradient loss.

    A recurrent module is trained on segments: runs of at most L steps of one episode, S of them in a minibatch.
    """

    obs: Tree
    """`[N, ...]`; in a minibatch of segments `[L, S, ...]`, padded at the end."""
    action: Tree
    """`[N, ...]`"""
    behavior_log_prob: Float[Tensor, "N"]
    """`[N]`: log-probability of `action` under the policy that acted."""
    behavior_dist_inputs: Float[Tensor, "N P"]
    """`[N, P]`"""
    behavior_value: Float[Tensor, "N"]
    """`[N]`: value estimate before the update."""
    advantage: Float[Tensor, "N"]
    """`[N]`"""
    value_target: Float[Tensor, "N"]
    """`[N]`"""
    state: Tree = ()
    """`[N, ...]`: recurrent state before each sample; in a minibatch `[S, ...]`, before each segment; `()` for a
    feed-forward module."""
    segments: Int[Tensor, "S L"] | None = None
    """`[S, L]`: which samples each segment consists of, -1 beyond its end; None for a feed-forward module."""
    real: Int[Tensor, "N"] | None = None
    """`[N]`, in a minibatch of segments: positions `l * S + s` of the other columns' samples in `obs`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """What a learner publishes and a runner acts with."""

    version: int
    """Counts the updates of the learner that published them."""
    tensors: Mapping[str, Tensor]
    """Parameters and buffers of the module by name."""
    connector_state: Tree = ()
    """Shared statistics of the observation connectors, one entry per piece."""
