"""Symmetry: transitions together with their mirror images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from rl_connectors.learner._slots import require_no_memory, side_by_side
from rl_connectors.learner._transitions import bound_copy
from rl_core import LearnerConnector, Rollout
from rl_core.env.spaces import Space, describe
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.records import Tree

Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Mirror:
    """A mirroring of one space: `x'[i] = sign[i] * x[permutation[i]]` of a vector, `permutation[i]` of a number i."""

    sign: Tensor
    """`[D]`, 1 or -1."""
    permutation: Tensor
    """`[D]` or `[n]`, int64."""
    start: int = 0
    """First number of a Discrete space, as it stands in the data."""
    is_vector: bool = True

    def __call__(self, values: Tensor) -> Tensor:
        """Mirror vectors `[..., D]`, or numbers `[...]`."""
        if self.is_vector:
            return (values[..., self.permutation] * self.sign.to(values.dtype)).contiguous()
        return (self.permutation[(values - self.start).long()] + self.start).to(values.dtype)


@dataclass(frozen=True)
class Symmetry(LearnerConnector):
    """Appends the mirror image of each slot as a further one: `[T, B]` becomes `[T, 2 * B]`.

        x'[i] = sign[i] * x[permutation[i]]    for a Box of one axis
        x'    = permutation[x]                 for a Discrete space, counted from 0

    Rewards and ends of episodes are the same; `env_steps` goes on counting only the sampled steps. The mirrored action
    distribution is the one recorded, mirrored, so on-policy algorithms learn from the images too, as if a mirrored
    policy had acted. What is not given stays as it is.

    Source: Abdolhosseini et al. 2019, section 3.1 (duplicated tuples).
    """

    obs_sign: Numbers | None = None
    """`[D]`, each 1 or -1."""
    obs_permutation: Numbers | None = None
    """`[D]`, or `[n]` of Discrete observations; each place once, from 0."""
    action_sign: Numbers | None = None
    """`[D]` of Box actions."""
    action_permutation: Numbers | None = None
    """`[D]`, or `[n]` of Discrete actions."""
    obs_mirror: Mirror | None = field(default=None, init=False, repr=False, compare=False)
    """Of the space it was bound to."""
    action_mirror: Mirror | None = field(default=None, init=False, repr=False, compare=False)
    """Of the space it was bound to."""

    def __post_init__(self) -> None:
        """Check the settings."""
        for name in ("obs_sign", "action_sign"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, tuple) or any(each not in (1, -1) for each in value)):
                raise ConfigError(f"Symmetry: {name}: got {value!r}, expected a tuple of 1 and -1.")
        for name in ("obs_permutation", "action_permutation"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, tuple) or sorted(value) != list(range(len(value)))):
                raise ConfigError(f"Symmetry: {name}: got {value!r}, expected a tuple with each place once, from 0.")
        if all(getattr(self, name) is None for name in _SETTINGS):
            raise ConfigError(f"Symmetry: nothing is mirrored. Give at least one of {', '.join(_SETTINGS)}.")

    def bind(self, observation_space: Space, action_space: Space) -> Symmetry:
        """Check that both spaces are their own mirror images."""
        obs_start = int(observation_space.start) if isinstance(observation_space, Discrete) else 0
        return bound_copy(
            self,
            obs_mirror=_mirror("obs", observation_space, self.obs_sign, self.obs_permutation, obs_start),
            # Modules count actions from 0, whatever the env's space begins with.
            action_mirror=_mirror("action", action_space, self.action_sign, self.action_permutation, 0),
        )

    def __call__(self, state: Tree, rollout: Rollout) -> tuple[Tree, Rollout, Mapping[str, float]]:
        """Append the images."""
        obs_mirror, action_mirror = self.obs_mirror, self.action_mirror
        assert obs_mirror is not None, "bound by the learner"
        assert action_mirror is not None, "bound by the learner"
        require_no_memory(rollout, "Symmetry")
        image = replace(
            rollout,
            obs=obs_mirror(rollout.obs),
            action=action_mirror(rollout.action),
            final_obs=None if rollout.final_obs is None else obs_mirror(rollout.final_obs),
            behavior_dist_inputs=_mirrored_inputs(action_mirror, rollout.behavior_dist_inputs),
        )
        return state, side_by_side([rollout, image]), {}


_SETTINGS = ("obs_sign", "obs_permutation", "action_sign", "action_permutation")


def _mirror(what: str, space: Space, sign: Sequence[int] | None, permutation: Numbers | None, start: int) -> Mirror:
    """Make the mirroring of a space.

    Raises:
        UnsupportedSpaceError: it is neither a Box of one axis nor Discrete, or is not its own mirror image.
    """
    is_vector = isinstance(space, Box) and len(space.shape) == 1
    if not (is_vector or isinstance(space, Discrete)):
        raise UnsupportedSpaceError(
            f"Symmetry: the {what} space is {describe(space)}, expected a Box of one axis or a Discrete space. Put a "
            "connector before that makes it one (FlattenObs), or write a learner connector of your own."
        )
    size = int(space.n) if isinstance(space, Discrete) else space.shape[0]  # type: ignore[index]
    if isinstance(space, Discrete) and sign is not None:
        raise UnsupportedSpaceError(
            f"Symmetry: {what}_sign is for a Box, the {what} space is {describe(space)}. Give {what}_permutation: for "
            "each number its mirror image."
        )
    for name, value in ((f"{what}_sign", sign), (f"{what}_permutation", permutation)):
        if value is not None and len(value) != size:
            raise UnsupportedSpaceError(
                f"Symmetry: {name} has {len(value)} entries, expected {size} for {describe(space)}."
            )
    mirror = Mirror(
        torch.tensor(sign if sign is not None else [1] * size),
        torch.tensor(permutation if permutation is not None else range(size)),
        start,
        is_vector,
    )
    if isinstance(space, Box):
        _check_bounds(what, space, mirror)
    return mirror


def _check_bounds(what: str, space: Box, mirror: Mirror) -> None:
    """Refuse a Box whose mirror image reaches beyond its bounds."""
    low, high = (bound.astype(np.float64)[mirror.permutation.numpy()] for bound in (space.low, space.high))
    flipped = mirror.sign.numpy() < 0
    low, high = np.where(flipped, -high, low), np.where(flipped, -low, high)
    wrong = np.flatnonzero((low != space.low) | (high != space.high))
    if len(wrong):
        place = int(wrong[0])
        raise UnsupportedSpaceError(
            f"Symmetry: number {place} of the {what} lies in [{space.low[place]:g}, {space.high[place]:g}], but its "
            f"mirror image in [{low[place]:g}, {high[place]:g}]. Correct {what}_sign and {what}_permutation, or shift "
            "the space so that it is symmetric."
        )


def _mirrored_inputs(mirror: Mirror, inputs: Tensor) -> Tensor:
    """Mirror the inputs `[T, B, P]` of the action's distribution.

    Of a choice among n they are blocks of n values (one of logits; of an exploring value-based policy one or two, and
    epsilon behind). Of D numbers they are means, then either log standard deviations, or up to two numbers about noise.

    Raises:
        ConfigError: they are laid out otherwise.
    """
    size, num_inputs = len(mirror.permutation), inputs.shape[-1]
    if not mirror.is_vector:
        num_blocks, rest = divmod(num_inputs, size)
        if num_blocks in (1, 2) and rest <= 1:
            # Choice a has become choice permutation[a], so its value goes there.
            source = mirror.permutation.argsort()
            blocks = [source + block * size for block in range(num_blocks)]
            return inputs[..., torch.cat([*blocks, torch.arange(num_blocks * size, num_inputs)])]
    elif num_inputs == 2 * size:
        mean, log_std = inputs.chunk(2, -1)
        return torch.cat((mirror(mean), log_std[..., mirror.permutation]), -1)
    elif num_inputs == size + 2:
        return torch.cat((mirror(inputs[..., :size]), inputs[..., size:]), -1)
    raise ConfigError(
        f"Symmetry: the module's action distribution has {num_inputs} inputs for {size} "
        f"{'numbers' if mirror.is_vector else 'choices'}, which it cannot mirror. Use one of the library's "
        "distributions, or write a learner connector of your own."
    )
