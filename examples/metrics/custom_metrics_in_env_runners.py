"""PPO on MsPacman, with figures and a heat map of every episode.

Shows: `on_episode_end`, called where the env runner is, which logs the longest way of an episode (max), ways on average
over 100 episodes (mean) and as an exponential moving average (ema), and a heat map of where Ms. Pacman was (an image);
and a connector that logs by the function `log_value`, since it does not know the run it works for: how near the ghosts
come (percentiles). Observations are the 128 bytes of the console's memory, which hold all positions.
Look at the heat maps with: tensorboard --logdir DIR/tensorboard, after a run with --output DIR
Criterion: evaluation return of 450 within 60,000 env steps (random play: about 240); the figures are in the result
and agree with each other, and TensorBoard holds a heat map for each iteration in which an episode ended.
Command: python examples/metrics/custom_metrics_in_env_runners.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 770.5, 540.5, 538.0 after 40,960, 20,480, 40,960 steps (54 to 114 s).
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import imageio.v3
import numpy as np
from gymnasium.spaces import Box, Space
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl_core import (
    Callbacks,
    ConnectorState,
    Episode,
    MetricsLogger,
    ObsConnector,
    PPOConfig,
    Step,
    TensorBoardSink,
    log_value,
)
from rl_core.example import Verdict, example_parser, finish_example, train_example

PLAYER_X, PLAYER_Y, GHOSTS_X, GHOSTS_Y = 10, 16, slice(6, 10), slice(12, 16)
"""Places in the memory. Source: Anand et al. 2019, Atari Annotated RAM Interface."""
HEIGHT, WIDTH, CELL = 176, 160, 4
WAY, HEAT_MAP = "env_runners/pacman_way", "env_runners/pacman_heat_map"

parser = example_parser(__doc__, env="ale_py:ALE/MsPacman-v5", stop_reward=450, stop_timesteps=60_000)


@dataclass(frozen=True)
class ScaleMemory(ObsConnector):
    """Scales the bytes to [0, 1], and logs how far the nearest ghost is."""

    def output_space(self, observation_space: Space, action_space: Space) -> Space:
        """Numbers where there were bytes."""
        return Box(0.0, 1.0, observation_space.shape)

    def __call__(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Scale and log."""
        memory = step.obs.astype(np.float32)
        across = np.abs(memory[:, GHOSTS_X] - memory[:, [PLAYER_X]])
        down = np.abs(memory[:, GHOSTS_Y] - memory[:, [PLAYER_Y]])
        for distance in (across + down).min(1).tolist():
            log_value("env_runners/ghost_distance", distance, reduce="percentiles", percentiles=(5, 50))
        return state, replace(step, obs=memory / 255)


class WatchPacman(Callbacks):
    """Logs figures of each episode."""

    def on_episode_end(self, *, episode: Episode, metrics: MetricsLogger) -> None:
        """Read the positions out of the memory."""
        x, y = (episode.obs[:, [PLAYER_X, PLAYER_Y]] * 255).round().T
        way = float(np.hypot(np.diff(x), np.diff(y)).sum())
        metrics.log_value(f"{WAY}_max", way, reduce="max", window=100)
        metrics.log_value(f"{WAY}_mean", way, window=100)
        metrics.log_value(f"{WAY}_ema", way, reduce="ema", ema_coeff=0.05)
        metrics.log_image(HEAT_MAP, heat_map(x, y))


def heat_map(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Draw how often each place was visited, `[HEIGHT, WIDTH, 3]`: from black over red and yellow to white."""
    cells = (np.arange(0, HEIGHT + 1, CELL), np.arange(0, WIDTH + 1, CELL))
    visits, _, _ = np.histogram2d(y, x, bins=cells)
    heat = np.log1p(visits) / np.log1p(visits.max())
    colors = np.clip(3 * heat[..., np.newaxis] - np.arange(3), 0, 1)
    return colors.repeat(CELL, 0).repeat(CELL, 1)


def check_figures(result: Mapping[str, Any]) -> Verdict:
    """Compare the figures of the last iteration with each other."""
    if f"{WAY}_max" not in result:
        return False, "no episode ended yet"
    largest, mean, average = (result[f"{WAY}_{name}"] for name in ("max", "mean", "ema"))
    near, usual = (result[f"env_runners/ghost_distance_p{point}"] for point in (5, 50))
    agree = largest >= mean > 0 and largest >= average > 0 and 0 <= near <= usual <= HEIGHT + WIDTH
    return agree, f"way {mean:.0f}, at most {largest:.0f}; nearest ghost {usual:.0f} away"


def check_heat_maps(folder: Path) -> Verdict:
    """Read the heat maps out of TensorBoard: one for each iteration in which an episode ended, with a way in it."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    if HEAT_MAP not in events.Tags()["images"]:
        return False, "no heat map"
    maps = events.Images(HEAT_MAP)
    pixels = imageio.v3.imread(io.BytesIO(maps[-1].encoded_image_string))
    visited = (pixels[::CELL, ::CELL].max(-1) > 0).sum()
    played = [event.step for event in events.Scalars("env_runners/num_episodes") if event.value > 0]
    complete = [event.step for event in maps] == played and pixels.shape == (HEIGHT, WIDTH, 3) and visited >= 20
    return complete, f"{len(maps)} heat maps, {visited} places visited in the last one"


if __name__ == "__main__":
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        config = (
            PPOConfig()
            .environment(args.env, env_config={"obs_type": "ram"})
            .env_runners(num_envs_per_env_runner=8, env_to_module_connector=(ScaleMemory(),))
            .training(train_batch_size_per_learner=2048, minibatch_size=256, num_epochs=6, lr=1e-3)
            .training(entropy_coeff=0.01)
            .rl_module(model_config={"fcnet_hiddens": [256, 256], "fcnet_activation": "relu"})
            .callbacks(callbacks_class=WatchPacman)
            .reporting(sinks=(TensorBoardSink(name),))
        )
        outcome = train_example(config, args, evaluate_every=20_000)
        outcome.algorithm.stop()  # closes the sink
        checks = check_figures(outcome.result), check_heat_maps(Path(name))
    finish_example(outcome, args, *checks)
