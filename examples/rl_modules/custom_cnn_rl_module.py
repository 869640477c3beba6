"""A convolutional module written from scratch, as fast as the library's, on Pong.

Shows: an RLModule of torch's layers on images, shared by policy and value function; `forward_train` runs them once for
both. Images arrive as bytes with any number of leading axes. What makes convolutions fast on a CPU is the order in
memory: the channels should come last there, whatever the order of the axes.
The screen is cut to the field, halved (80 x 80 pixels) and stacked four times; games are cut after 250 steps. Pong
needs pip install "rl-envs[atari]"; `--env` takes any other game of ale-py.
Criterion: within 32,768 env steps the value loss falls below two thirds (mean of the last eight iterations against that
of the first eight), and the module takes at most 1.25 times as long as the default one for a step forwards and
backwards. (To play well takes a hundred times as many steps.)
Command: python examples/rl_modules/custom_cnn_rl_module.py --as-test --seed 0
Reached: on seeds 0, 1, 2: value loss from 0.079, 0.071, 0.082 to 0.037, 0.032, 0.032; 2,871, 3,314, 3,311 images/s
learned from, the default module 2,938, 3,356, 3,340 (71 to 78 s).
"""

import time
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, TransformObservation
from torch import Tensor, nn

from rl_core import Algorithm, Callbacks, PPOConfig, RLModule
from rl_core.example import example_parser, finish_example, train_example
from rl_core.module import ActorCritic

MOST_TIME = 1.25
"""Of the default module's, for a step forwards and backwards."""

parser = example_parser(__doc__, env="ale_py:ALE/Pong-v5", stop_timesteps=32_768)
parser.set_defaults(evaluation_interval=0)  # only at the end: a game takes long


def small_screen(config: dict[str, Any]) -> gymnasium.Env:
    """Make a game of Atari with observations `[4, 80, 80]` of bytes."""
    env = gymnasium.make(config["game"], obs_type="grayscale", max_episode_steps=250)
    screen = spaces.Box(0, 255, (80, 80), np.uint8)
    return FrameStackObservation(TransformObservation(env, lambda image: image[34:194:2, ::2], screen), 4)


class CNNModule(RLModule):
    """Three convolutions and a dense layer under linear heads for policy and value function."""

    def __init__(self, observation_space: spaces.Box, action_space: spaces.Space, *, num_units: int = 512) -> None:
        """Build the layers.

        Args:
            observation_space: Images of bytes, the channels first.
            action_space: Any.
            num_units: Of the dense layer.
        """
        super().__init__(observation_space, action_space)
        convolutions = nn.Sequential(
            nn.Conv2d(observation_space.shape[0], 32, 8, 4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, 2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1),
            nn.ReLU(),
            nn.Flatten(),
        )
        num_features = convolutions(torch.zeros(1, *observation_space.shape)).shape[1]
        self.encoder = nn.Sequential(convolutions, nn.Linear(num_features, num_units), nn.ReLU())
        self.policy = nn.Linear(num_units, self.distribution.num_inputs)
        self.value = nn.Linear(num_units, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.orthogonal_(layer.weight, 0.01 if layer is self.policy else 2**0.5)
                nn.init.zeros_(layer.bias)

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
        """Map images `[..., C, H, W]` to features `[..., F]`."""
        images = obs.flatten(0, -4).to(torch.float32, memory_format=torch.channels_last) / 255
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
        .environment(small_screen, env_config={"game": args.env})
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, num_epochs=4, lr=2.5e-4)
        .training(gamma=0.95, entropy_coeff=0.01)
        .rl_module(module_class=CNNModule)
        .callbacks(callbacks_class=LossCurve)
    )
    LossCurve.losses.clear()
    outcome = train_example(config, args)
    own = outcome.algorithm.learner.module
    per_s = speeds({"own": own, "default": ActorCritic(own.observation_space, own.action_space)})
    first, last = np.mean(LossCurve.losses[:8]), np.mean(LossCurve.losses[-8:])
    finish_example(
        outcome,
        args,
        (last < first * 2 / 3, f"value loss from {first:.3f} to {last:.3f}"),
        (
            per_s["own"] * MOST_TIME >= per_s["default"],
            f"learns from {per_s['own']:,.0f} images/s, the default module from {per_s['default']:,.0f}",
        ),
    )
