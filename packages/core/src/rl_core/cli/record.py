"""`rl record`: a video of a trained policy."""

from __future__ import annotations

import argparse
import functools
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rl_core.algorithm.config import AlgorithmConfig
from rl_core.checkpoint import Checkpoint
from rl_core.cli import inputs
from rl_core.cli.options import check_output
from rl_core.env.make import env_name, make_single_env
from rl_core.errors import EnvError, RunError
from rl_core.policy import Policy
from rl_core.runs.picture import INSTALL_HINT

FORMATS = (".mp4",)
DEFAULT_FPS = 30


def run(arguments: argparse.Namespace) -> int:
    """Record."""
    check_output(arguments.output, FORMATS)
    open_video = _video_writer()
    checkpoint, _ = inputs.find_checkpoint(arguments.path, lambda text: print(text, file=sys.stderr))
    allow = inputs.allowed(arguments)
    config = AlgorithmConfig.from_dict(Checkpoint(checkpoint).load("config"), allow=allow)
    policy = Policy.from_checkpoint(checkpoint, allow=allow)
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame looks for a screen, which pictures do not need
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*render_mode.*")  # `_check_renders` says it better
        env = make_single_env(config.environment.env, config.environment.env_config, "rgb_array")
    name = env_name(config.environment.env)
    returns: list[float] = []
    try:
        _check_renders(env, name)
        frames = _frames(env, policy, arguments, returns)
        _write_video(arguments.output, frames, functools.partial(open_video, fps=_fps(env)))
    finally:
        env.close()
    shown = ", ".join(f"{value:.1f}" for value in returns)
    print(f"{arguments.output}: {len(returns)} episode{'s' if len(returns) > 1 else ''} of {name}, return {shown}")
    return 0


def _video_writer() -> Any:
    """Return imageio's function that opens a video for writing.

    Raises:
        RunError: imageio is missing.
    """
    try:
        import imageio.v2
    except ImportError as error:
        raise RunError(f"imageio is needed to write a video ({error}): {INSTALL_HINT}") from error
    return functools.partial(imageio.v2.get_writer, macro_block_size=None, ffmpeg_log_level="error")


def _write_video(path: Path, frames: Iterator[np.ndarray[Any, Any]], open_video: Any) -> None:
    """Write beside and move: a failure half-way leaves neither half a video nor none where there was one.

    Raises:
        RunError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.tmp{path.suffix}")
    first = next(frames)  # whatever is wrong with the env shows before a file is opened
    try:
        with open_video(temporary) as writer:
            writer.append_data(first)
            for frame in frames:
                writer.append_data(frame)
        temporary.replace(path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _check_renders(env: gymnasium.Env[Any, Any], name: str) -> None:
    if env.render_mode != "rgb_array":
        modes = ", ".join(map(repr, env.metadata.get("render_modes", ()))) or "none"
        raise EnvError(f"{name} cannot be filmed: it needs render_mode 'rgb_array', and supports {modes}.")


def _open_video(imageio: Any, path: Path, fps: float) -> Any:
    """Open a video for writing, at the frames' own size."""
    return imageio.get_writer(path, fps=fps, macro_block_size=None, ffmpeg_log_level="error")


def _fps(env: gymnasium.Env[Any, Any]) -> float:
    fps = env.metadata.get("render_fps")
    return float(fps) if isinstance(fps, int | float) and fps > 0 else DEFAULT_FPS


def _frames(
    env: gymnasium.Env[Any, Any], policy: Policy, arguments: argparse.Namespace, returns: list[float]
) -> Iterator[np.ndarray[Any, Any]]:
    """Play the episodes, yield a frame per step, and append each return to `returns`."""
    for episode in range(arguments.episodes):
        obs, _ = env.reset(seed=arguments.seed + episode)
        state = None
        reward = total = 0.0
        yield _frame(env)
        for _ in range(arguments.max_steps):
            action, state = policy.act(obs, state, reward=reward, explore=arguments.explore)
            obs, given, terminated, truncated, _ = env.step(action)
            reward = float(given)
            total += reward
            yield _frame(env)
            if terminated or truncated:
                break
        returns.append(total)


def _frame(env: gymnasium.Env[Any, Any]) -> np.ndarray[Any, Any]:
    """Render one frame `[height, width, 3]` with even sides, as the video codec wants it."""
    frame = np.asarray(env.render())
    if frame.ndim != 3 or frame.shape[-1] != 3 or frame.dtype != np.uint8:
        raise EnvError(f"render() gave {frame.dtype} of shape {frame.shape}, expected uint8 of [height, width, 3].")
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
