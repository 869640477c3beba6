"""Chains of observation connectors that are common: for `env_runners(env_to_module_connector=...)`.

They are tuples; `rl_connectors.edit` changes single pieces.
"""

from __future__ import annotations

from rl_connectors.obs.frame_stack import FrameStack
from rl_connectors.obs.image import GrayImage, ResizeImage
from rl_connectors.obs.mean_std import MeanStdFilter
from rl_connectors.reward.clip import SignReward
from rl_connectors.reward.normalize import NormalizeReward
from rl_core import ObsConnector


def atari(
    num_frames: int = 4, size: int = 84, *, clip_rewards: bool = True, gray: bool = True
) -> tuple[ObsConnector, ...]:
    """Return the preprocessing of Atari games, for the envs ALE/...-v5.

    Gray, resized, stacked; rewards by their sign. The skipping of frames is the env's own (4 in ALE/...-v5). Unlike in
    the paper, two frames are not combined by their maximum.

    Args:
        num_frames: Observations in a stack.
        size: Height and width of the resized image, in pixels.
        clip_rewards: Take the sign of each reward.
        gray: Make colours gray; False for envs with `obs_type="grayscale"`, which have none, or to keep the colours.

    Returns:
        Pieces that make `[num_frames, size, size]`, uint8, of `[210, 160, 3]`; without `gray` of `[210, 160]`, and of
        colours `[num_frames, size, size, 3]`.

    Source: Mnih et al. 2015, "Human-level control through deep reinforcement learning", Methods.
    """
    images: tuple[ObsConnector, ...] = (ResizeImage(size, size), FrameStack(num_frames))
    return (*((GrayImage(),) if gray else ()), *images, *((SignReward(),) if clip_rewards else ()))


def mujoco(gamma: float = 0.99) -> tuple[ObsConnector, ...]:
    """Return the normalisation that PPO needs on MuJoCo tasks: of observations and of rewards, both clipped at 10.

    Args:
        gamma: Discount factor, 0 to 1: the one that is trained with.

    Source: Andrychowicz et al. 2021, "What Matters In On-Policy Reinforcement Learning?", section 3.3; Engstrom et al.
    2020, "Implementation Matters in Deep Policy Gradients", section 3.
    """
    return (MeanStdFilter(clip=10.0), NormalizeReward(gamma, clip=10.0))
