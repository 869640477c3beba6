"""Write `packages/core/tests/migrate/fixtures`: RLlib's checkpoints, and beside each what RLlib computes from it.

Made with ray[rllib] 2.60.0, torch 2.15, gymnasium 1.2.2 and numpy 2.4.6 on Python 3.11, in an environment of its own:

    python rllib_fixtures.py fixtures

The argument is the folder to write, which is emptied first. The pickles name the folders of this file and of Ray: copy
the file to a neutral one and call it there. Each `<name>/` holds a policy (old API stack: `policy_state.pkl`) or an
RLModule (new stack: `module_state.pkl` and its neighbours), `<name>.npz` the observations, distribution inputs, values
and last recurrent states, time-major. All were trained for one iteration, so that no bias is zero.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from gymnasium import spaces
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

STEPS, ROWS = 4, 3
VECTOR = spaces.Box(-2.0, 2.0, (3,), np.float32)
IMAGE = spaces.Box(0, 3, (12, 12, 2), np.uint8)  # small numbers: RLlib does not scale images
FLOAT_IMAGE = spaces.Box(0.0, 1.0, (12, 12, 2), np.float32)
CHOICE = spaces.Discrete(3)
BOX = spaces.Box(-1.0, 1.0, (2,), np.float32)
CONVOLUTIONS = [[4, [4, 4], 2], [8, [3, 3], 2], [8, [3, 3], 1]]


class RandomEnv(gymnasium.Env):
    """Random observations and rewards."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.observation_space, self.action_space = config["observation_space"], config["action_space"]
        self.time = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go on; the episode ends after 8 steps."""
        self.time += 1
        return self.observation_space.sample(), float(np.random.rand()), self.time == 8, False, {}


def configure(config: Any, observation_space: Any, action_space: Any) -> Any:
    """Set the env and the smallest sizes."""
    env_config = {"observation_space": observation_space, "action_space": action_space}
    config = config.environment(RandomEnv, env_config=env_config).debugging(seed=0)
    return config.env_runners(num_env_runners=0, rollout_fragment_length=32).training(train_batch_size=32)


def observations(space: Any) -> np.ndarray:
    """Draw `[T, B, ...]`."""
    space.seed(1)
    return np.stack([[space.sample() for _ in range(ROWS)] for _ in range(STEPS)])


def legacy(folder: Path, observation_space: Any, action_space: Any, model: dict[str, Any]) -> None:
    """Write a policy of the old stack into a folder, and the figures into an .npz beside it."""
    config = configure(PPOConfig(), observation_space, action_space).training(
        minibatch_size=32, num_epochs=2, lr=0.01, model=model
    )
    config = config.api_stack(enable_rl_module_and_learner=False, enable_env_runner_and_connector_v2=False)
    algorithm = config.build_algo()
    algorithm.train()
    policy = algorithm.get_policy()
    policy.export_checkpoint(str(folder))
    network = policy.model.eval()
    obs = observations(observation_space)
    state = [torch.zeros(ROWS, len(part)) for part in network.get_initial_state()]
    outputs, values = [], []
    with torch.no_grad():
        for step in obs:
            given = torch.from_numpy(step)
            batch = {"obs": given, "obs_flat": given.float().flatten(1)}
            logits, state = network(batch, state, torch.ones(ROWS, dtype=torch.int32))
            outputs.append(logits.numpy())
            values.append(network.value_function().numpy())
    states = {f"state_{index}": part.numpy() for index, part in enumerate(state)}
    dist_inputs, value = np.stack(outputs), np.stack(values)
    np.savez_compressed(f"{folder}.npz", obs=obs, dist_inputs=dist_inputs, value=value, **states)
    algorithm.stop()


def modern(folder: Path, base: Any, observation_space: Any, action_space: Any, model: Any) -> None:
    """Write an RLModule of the new stack into a folder, and the figures into an .npz beside it."""
    config = configure(base, observation_space, action_space).rl_module(model_config=model)
    algorithm = config.build_algo()
    algorithm.train()
    with TemporaryDirectory() as whole:
        algorithm.save_to_path(whole)
        part = Path(whole) / "learner_group" / "learner" / "rl_module" / "default_policy"
        shutil.copytree(part, folder)
    module = algorithm.learner_group._learner.module["default_policy"].unwrapped().eval()
    obs = observations(observation_space)
    recorded = {}
    with torch.no_grad():
        if module.is_stateful():  # this stack wants [B, T, ...]
            start = {key: _rows(part) for key, part in module.get_initial_state().items()}
            batch = {"obs": torch.from_numpy(obs).transpose(0, 1), "state_in": start}
            out = module.forward_train(batch)
            recorded["dist_inputs"] = out["action_dist_inputs"].transpose(0, 1).numpy()
            recorded["value"] = module.compute_values(batch).transpose(0, 1).numpy()
            recorded |= {f"state_{key}": part.numpy() for key, part in _leaves(out["state_out"])}
        else:
            batch = {"obs": torch.from_numpy(obs).flatten(0, 1)}
            if isinstance(base, DQNConfig):
                outputs = module.compute_q_values(batch)["qf_preds"]
            else:
                outputs = module.forward_train(batch)["action_dist_inputs"]
                recorded["value"] = module.compute_values(batch).reshape(STEPS, ROWS).numpy()
            recorded["dist_inputs"] = outputs.reshape(STEPS, ROWS, -1).numpy()
    np.savez_compressed(f"{folder}.npz", obs=obs, **recorded)
    algorithm.stop()


def _rows(tree: Any) -> Any:
    """Repeat a state for every row."""
    if isinstance(tree, dict):
        return {key: _rows(part) for key, part in tree.items()}
    return tree.unsqueeze(0).repeat(ROWS, *[1] * tree.dim())


def _leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    """List the tensors of nested dicts with their paths."""
    if not isinstance(tree, dict):
        return [(path, tree)]
    return [leaf for key, part in tree.items() for leaf in _leaves(part, f"{path}_{key}".strip("_"))]


def main(folder: Path) -> None:
    """Write all into a folder, emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    dense = {"fcnet_hiddens": [8, 8]}
    legacy(folder / "policy_dense_separate_tanh", VECTOR, CHOICE, {**dense, "vf_share_layers": False})
    legacy(
        folder / "policy_dense_shared_relu", VECTOR, BOX, {**dense, "fcnet_activation": "relu", "vf_share_layers": True}
    )
    legacy(folder / "policy_dense_free_log_std", VECTOR, BOX, {**dense, "free_log_std": True, "vf_share_layers": False})
    legacy(folder / "policy_image_shared", IMAGE, CHOICE, {"conv_filters": CONVOLUTIONS, "vf_share_layers": True})
    legacy(folder / "policy_image_separate", IMAGE, CHOICE, {"conv_filters": CONVOLUTIONS, "vf_share_layers": False})
    post = {"conv_filters": CONVOLUTIONS, "post_fcnet_hiddens": [8, 6], "post_fcnet_activation": "tanh"}
    legacy(folder / "policy_image_post", IMAGE, CHOICE, {**post, "vf_share_layers": False})
    lstm = {"use_lstm": True, "lstm_cell_size": 8, "max_seq_len": 4}
    legacy(folder / "policy_lstm", VECTOR, CHOICE, {**dense, **lstm})
    legacy(folder / "policy_image_lstm", IMAGE, CHOICE, {"conv_filters": CONVOLUTIONS, **lstm})
    ppo = PPOConfig().training(minibatch_size=32, num_epochs=2, lr=0.01)
    modern(folder / "ppo_dense_separate", ppo.copy(), VECTOR, CHOICE, {**dense, "vf_share_layers": False})
    modern(folder / "ppo_dense_shared", ppo.copy(), VECTOR, BOX, {**dense, "vf_share_layers": True})
    heads = {"head_fcnet_hiddens": [6], "fcnet_use_layernorm": True, "free_log_std": True}
    model = DefaultModelConfig(**dense, **heads, vf_share_layers=False)  # stored as an object, not as a dict
    modern(folder / "ppo_heads", ppo.copy(), VECTOR, BOX, model)
    image = {"conv_filters": CONVOLUTIONS, "head_fcnet_hiddens": [8]}
    modern(folder / "ppo_image", ppo.copy(), FLOAT_IMAGE, CHOICE, {**image, "vf_share_layers": True})
    modern(folder / "ppo_lstm_shared", ppo.copy(), VECTOR, CHOICE, {**dense, **lstm, "vf_share_layers": True})
    modern(folder / "ppo_lstm_separate", ppo.copy(), VECTOR, CHOICE, {**dense, **lstm, "vf_share_layers": False})
    replay = {"type": "EpisodeReplayBuffer", "capacity": 64}
    dqn = DQNConfig().training(replay_buffer_config=replay, num_steps_sampled_before_learning_starts=32)
    modern(folder / "dqn_dueling", dqn, VECTOR, CHOICE, {**dense, "head_fcnet_hiddens": [6]})
    fields = dataclasses.asdict(DefaultModelConfig())
    (folder / "default_model_config.json").write_text(json.dumps(fields, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
