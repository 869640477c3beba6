"""A convolutional module written from scratch, as fast as the library's.

Shows: an RLModule of torch's layers on images, shared by policy and value function; `forward_train` runs them once for
both. Images arrive as bytes with any number of leading axes. What makes convolutions fast on a CPU is the order in
memory: axes are permuted but nothing is copied, so that the channels stay last.
With ale-py (pip install "gymnasium[atari]") it plays Pong on the raw screen. Without it, it catches a falling ball on a
screen of 42 x 42 pixels, the env below, where random moves return RANDOM_CATCH and the best ones 1.
Criterion: the value loss falls below half of the first iteration's, the module takes at most 1.25 times as long as the
default one for a step forwards and backwards, and on the small screen the evaluation return reaches 0.8 within 200,000
env steps.
Command: python examples/rl_modules/custom_cnn_rl_module.py --as-test --seed 0
Reached: REACHED_CNN
"""

import importlib.util
import time
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_core import Algorithm, Callbacks, PPOConfig, RLModule
from rl_core.example import example_parser, finish_example, train_example
from rl_core.module import ActorCritic

PONG, CATCH = "ale_py:ALE/Pong-v5", "catch"
DEFAULT = PONG if importlib.util.find_spec("ale_py") else CATCH
MOST_TIME = 1.25
"""Of the default module's, for a step forwards and backwards."""

parser = example_parser(__doc__, env=DEFAULT, stop_reward=0.8 if DEFAULT == CATCH else None, stop_timesteps=200_000)


class Catch(gymnasium.Env[np.ndarray, int]):
    """A ball falls over 7 x 7 cells; the paddle at the bottom moves left (0), not at all (1) or right (2)."""

    cells, pixels = 7, 6

    def __init__(self) -> None:
        side = self.cells * self.pixels
        self.observation_space = spaces.Box(0, 255, (side, side, 1), np.uint8)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Drop a ball in any column."""
        super().reset(seed=seed)
        self.row, self.column, self.paddle = 0, int(self.np_random.integers(self.cells)), self.cells // 2
        return self._image(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move paddle and ball; 1 for a ball that is caught, -1 for another, both at the end."""
        self.paddle = min(max(self.paddle + int(action) - 1, 0), self.cells - 1)
        self.row += 1
        over = self.row == self.cells - 1
        reward = float(over) * (1.0 if self.paddle == self.column else -1.0)
        return self._image(), reward, over, False, {}

    def _image(self) -> np.ndarray:
        """Draw the screen."""
        cells = np.zeros((self.cells, self.cells), dtype=np.uint8)
        cells[self.row, self.column] = 255
        cells[-1, self.paddle] = 128
        return cells.repeat(self.pixels, 0).repeat(self.pixels, 1)[..., np.newaxis]


class CNNModule(RLModule):
    """Three convolutions and a dense layer under linear heads for policy and value function."""

    def __init__(self, observation_space: spaces.Box, action_space: spaces.Space, *, num_units: int = 512) -> None:
        """Build the layers.

        Args:
            observation_space: Images of bytes, the channels last.
            action_space: Any.
            num_units: Of the dense layer.
        """
        super().__init__(observation_space, action_space)
        convolutions = nn.Sequential(
            nn.Conv2d(observation_space.shape[2], 32, 8, 4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1),
            nn.ReLU(),
            nn.Flatten(),
        )
        height, width, channels = observation_space.shape
        num_features = convolutions(torch.zeros(1, channels, height, width)).shape[1]
        self.encoder = nn.Sequential(convolutions, nn.Linear(num_features, num_units), nn.ReLU())
        self.policy = nn.Linear(num_units, self.distribution.num_inputs)
        self.value = nn.Linear(num_units, 1)

    def forward_policy(self, obs: Tensor, state: Any = ()) -> tuple[Tensor, Any]:
        """Return the distribution's inputs."""
        return self.policy(self._encode(obs)), state

    def forward_value(self, obs: Tensor, state: Any = ()) -> Tensor:
        """Return the values."""
        return self.value(self._encode(obs)).squeeze(-1)

    def forward_train(self, obs: Tensor, state: Any = ()) -> tuple[Tensor, Tensor]:
        """Return both, from the same features."""
        features = self._encode(obs)
        return self.policy(features), self.value(features).squeeze(-1)

    def _encode(self, obs: Tensor) -> Tensor:
        """Map images `[..., H, W, C]` to features `[..., F]`."""
        images = obs.flatten(0, -4).permute(0, 3, 1, 2)  # a view: in memory the channels stay last
        images = images.to(torch.float32, memory_format=torch.channels_last) / 255
        return self.encoder(images).unflatten(0, obs.shape[:-3])


class LossCurve(Callbacks):
    """Keeps the value loss of each iteration."""

    losses: ClassVar[list[float]] = []

    def on_train_result(self, *, algorithm: Algorithm, result: dict[str, float]) -> None:
        """Take it from the result."""
        self.losses.append(result["learner/default/value_loss"])


def speeds(modules: dict[str, RLModule], batch_size: int = 128, repeats: int = 10) -> dict[str, float]:
    """Return the images per second that each module learns from, at best."""
    space = next(iter(modules.values())).observation_space
    obs = torch.from_numpy(np.stack([space.sample() for _ in range(batch_size)]))
    best = dict.fromkeys(modules, float("inf"))
    for _ in range(repeats):  # in turn, so that whatever else the computer does slows down all of them
        for name, module in modules.items():
            start = time.perf_counter()
            dist_inputs, value = module.forward_train(obs)
            (dist_inputs.sum() + value.sum()).backward()
            best[name] = min(best[name], time.perf_counter() - start)
    return {name: batch_size / seconds for name, seconds in best.items()}


if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(Catch if args.env == CATCH else args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, num_epochs=4, lr=5e-4, entropy_coeff=0.01)
        .rl_module(module_class=CNNModule)
        .callbacks(callbacks_class=LossCurve)
    )
    LossCurve.losses.clear()
    outcome = train_example(config, args)
    own = outcome.algorithm.learner.module
    per_s = speeds({"own": own, "default": ActorCritic(own.observation_space, own.action_space)})
    first, last = LossCurve.losses[0], LossCurve.losses[-1]
    finish_example(
        outcome,
        args,
        (last < first / 2, f"value loss from {first:.3f} to {last:.3f}"),
        (
            per_s["own"] * MOST_TIME >= per_s["default"],
            f"learns from {per_s['own']:,.0f} images/s, the default module from {per_s['default']:,.0f}",
        ),
    )
