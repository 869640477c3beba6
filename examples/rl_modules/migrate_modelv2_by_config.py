"""RLlib's old model settings become a module of this library.

Shows: `module_from_rllib`, which builds the network that RLlib's old API stack makes from a `model` dict, be it dense,
convolutional or with an LSTM; and `model_settings_from_rllib`, which translates the dict to settings of the default
module, to train with them.
Criterion: the parameters have the shapes that RLlib 2.60 gives them; evaluation return of 350 on CartPole-v1 within 100
iterations.
Command: python examples/rl_modules/migrate_modelv2_by_config.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 500.0, 449.1, 380.9 after 15,360, 10,240, 10,240 steps (1 s); all shapes agree.
"""

import numpy as np
from gymnasium import spaces

from rl_core import PPOConfig
from rl_core.example import example_parser, finish_example, train_example
from rl_core.migrate import model_settings_from_rllib, module_from_rllib

VECTOR, IMAGE = spaces.Box(-1.0, 1.0, (4,), np.float32), spaces.Box(0, 255, (42, 42, 4), np.uint8)
DENSE = {"fcnet_hiddens": [64, 64], "fcnet_activation": "tanh", "vf_share_layers": False}
CONVOLUTIONAL = {"conv_filters": [[16, [4, 4], 2], [32, [4, 4], 2], [256, [11, 11], 1]], "vf_share_layers": True}
RECURRENT = {"fcnet_hiddens": [64], "use_lstm": True, "lstm_cell_size": 32}

# What RLlib 2.60's `named_parameters()` list for two actions; biases, which follow from the weights, are left out.
NETWORK_WEIGHTS = [(64, 4), (64, 64)]
MODELS = {
    "dense": (DENSE, VECTOR, [*NETWORK_WEIGHTS, (2, 64), *NETWORK_WEIGHTS, (1, 64)]),
    "convolutional": (
        CONVOLUTIONAL,
        IMAGE,
        [(16, 4, 4, 4), (32, 16, 4, 4), (256, 32, 11, 11), (2, 256, 1, 1), (1, 256)],
    ),
    "recurrent": (RECURRENT, VECTOR, [(64, 4), (128, 64), (128, 32), (2, 32), (1, 32)]),
}

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=350, stop_iters=100)


def compare_shapes(name: str) -> tuple[bool, str]:
    """Build a model and print its shapes beside RLlib's; a convolution over one pixel is a dense layer here."""
    model, observation_space, expected = MODELS[name]
    module = module_from_rllib(model, observation_space, spaces.Discrete(2))
    shapes = [tuple(parameter.shape) for parameter in module.parameters() if parameter.dim() > 1]
    dense = [shape[:2] if shape[2:] == (1, 1) else shape for shape in expected]
    print(f"{name}, as {type(module).__name__}\n  here  {shapes}\n  RLlib {expected}")
    return sorted(shapes) == sorted(dense), f"shapes of the {name} model"


if __name__ == "__main__":
    args = parser.parse_args()
    checks = [compare_shapes(name) for name in MODELS]
    config = (
        PPOConfig()
        .environment(args.env)
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3, gamma=0.98, lambda_=0.9)
        .rl_module(model_config=model_settings_from_rllib(DENSE))
    )
    finish_example(train_example(config, args), args, *checks)
