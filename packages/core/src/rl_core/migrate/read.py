"""Checkpoints of RLlib's policies (old API stack) and RLModules (new stack) as modules with the same outputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from rl_core.errors import CheckpointError, RLError
from rl_core.migrate.inert import MAX_BYTES, Name, Record, read_pickle, shown
from rl_core.migrate.model_config import Kwargs, build, checked, legacy_network, module_network
from rl_core.migrate.network import RllibNetwork
from rl_core.migrate.values import Array, to_array, to_plain, to_space
from rl_core.module.actor_critic import ActorCritic
from rl_core.module.memory import LSTM
from rl_core.module.rl_module import RLModule

Space = spaces.Space[Any]
Parts = dict[str, list[Array]]
_LEGACY_PREFIXES = {
    "_hidden_layers.": "layers",
    "_convs.": "layers",
    "lstm.": "lstm",
    "_value_branch_separate.": "value_layers",
    "_logits.": "policy_head",
    "_logits_branch.": "policy_head",
    "_value_branch.": "value_head",
    "_append_free_log_std.": "log_std",
}
_MODULE_PREFIXES = {
    "pi.log_std_clip": "",
    "vf.log_std_clip": "",
    "af.log_std_clip": "",
    "_target_": "",
    "_old_": "",
    "encoder.encoder.lstm.": "lstm",
    "encoder.encoder.": "layers",
    "encoder.actor_encoder.lstm.": "lstm",
    "encoder.actor_encoder.": "layers",
    "encoder.critic_encoder.lstm.": "value_lstm",
    "encoder.critic_encoder.": "value_layers",
    "encoder.lstm.": "lstm",
    "encoder.": "layers",
    "pi.log_std": "log_std",
    "pi.": "policy_head",
    "af.": "policy_head",
    "vf.": "value_head",
}
"""Which part of the network a weight belongs to, by the first prefix that fits; "" is left out."""
_MODULES = frozenset(
    f"{prefix}{algorithm}TorchRLModule" for algorithm in ("PPO", "APPO", "DQN") for prefix in ("", "Default")
)


def read_rllib_policy(path: str | Path, *, policy_id: str = "default_policy", max_bytes: int = MAX_BYTES) -> RLModule:
    """Read a policy that RLlib's old API stack saved, without RLlib and without running anything of the file.

    The module takes what RLlib's preprocessor and observation filter put out: nested and discrete observations as one
    vector (connectors here make the same), images unscaled.

    Args:
        path: A checkpoint of an algorithm or of a policy, or a `policy_state.pkl`.
        policy_id: Which policy of an algorithm's checkpoint.
        max_bytes: Largest file to read.

    Returns:
        An `ActorCritic` where that expresses the network, else an `RllibNetwork`.

    Raises:
        CheckpointError: the file is missing, damaged or hostile, or its weights do not fit its settings.
        ConfigError: the policy has a custom or otherwise unsupported model; the message names the setting.
    """
    path = Path(path)
    if path.is_dir():
        path = _first_folder((path, path / "policies" / policy_id), "policy_state.pkl") / "policy_state.pkl"
    state = read_pickle(path, max_bytes=max_bytes)
    spec = _entry(state, "policy_spec", path)
    config = _entry(spec, "config", path)
    if config.get("observation_filter", "NoFilter") not in ("NoFilter", None):
        warnings.warn(
            f"{path}: was trained with observation_filter={shown(config['observation_filter'])}, whose statistics are "
            "not read. Filter observations the same way before they reach the module.",
            stacklevel=2,
        )
    model = _entry(config, "model", path)
    observation_space = to_space(spec.get("observation_space"), f"{path}: observation_space")
    action_space = to_space(spec.get("action_space"), f"{path}: action_space")
    with _blame(path):
        network = legacy_network(checked(to_plain(model, f"{path}: model")), observation_space)
    parts = _sort(_entry(state, "weights", path), _LEGACY_PREFIXES, path)
    if network["cell_size"] is not None:
        parts.pop("value_layers", None)  # those of the network below the LSTM, which RLlib leaves unused
    elif not parts.get("value_head"):  # of images: a last convolution of one pixel
        own = parts.get("value_layers", [])
        parts["value_layers"], parts["value_head"] = own[:-2], own[-2:]
    return _restore(network, observation_space, action_space, parts, path)


def read_rllib_module(path: str | Path, *, module_id: str = "default_policy", max_bytes: int = MAX_BYTES) -> RLModule:
    """Read a default RLModule of PPO, APPO or DQN that RLlib's new API stack saved, without running any of the file.

    DQN's action values become the distribution's inputs: its mode is the greedy action, the value the largest of them.

    Args:
        path: A checkpoint of an algorithm, of a MultiRLModule or of an RLModule.
        module_id: Which module, in the first two cases.
        max_bytes: Largest file to read.

    Returns:
        An `ActorCritic` where that expresses the network, else an `RllibNetwork`.

    Raises:
        CheckpointError: the files are missing, damaged or hostile, of a module of one's own or without its value
            function, or the weights do not fit the settings.
        ConfigError: a setting is not supported; the message names it.
    """
    folders = [Path(path) / part for part in ("", module_id, f"learner_group/learner/rl_module/{module_id}")]
    folder = _first_folder(folders, "module_state.pkl")
    described = folder / "class_and_ctor_args.pkl"
    args = read_pickle(described, max_bytes=max_bytes)
    kind = args.get("class") if isinstance(args, dict) else None
    name = kind.path.rpartition(".")[2] if isinstance(kind, Name) and kind.path.startswith("ray.rllib.") else ""
    if name not in _MODULES:
        raise CheckpointError(f"{described}: got a module of {shown(kind)}, expected one of {sorted(_MODULES)}.")
    pair = args.get("ctor_args_and_kwargs")
    pair = pair[1] if isinstance(pair, tuple) and len(pair) == 2 else pair
    keywords = _entry({"arguments": pair}, "arguments", described)
    observation_space = to_space(keywords.get("observation_space"), f"{described}: observation_space")
    action_space = to_space(keywords.get("action_space"), f"{described}: action_space")
    settings = keywords.get("model_config") or {}
    settings = settings.state if isinstance(settings, Record) else settings  # a DefaultModelConfig
    model = checked(to_plain(_entry({"model_config": settings}, "model_config", described), "model"), strict=False)
    state = folder / "module_state.pkl"
    parts = _sort(read_pickle(state, max_bytes=max_bytes), _MODULE_PREFIXES, state)
    is_dqn = "DQN" in name
    with _blame(described):
        network = module_network(model, observation_space, shared=is_dqn or "value_layers" not in parts)
    if is_dqn:
        network["dueling"] = bool(model["dueling"])
    elif "value_head" not in parts:
        raise CheckpointError(f"{state}: has no value function. Read learner_group/learner/rl_module instead.")
    return _restore(network, observation_space, action_space, parts, state)


def _first_folder(folders: Iterable[Path], file: str) -> Path:
    """Return the first folder that holds the file."""
    folders = list(folders)
    for folder in folders:
        if (folder / file).is_file():
            return folder
    tried = ", ".join(str(folder / file) for folder in folders)
    raise CheckpointError(f"No checkpoint of RLlib: none of {tried} exists. Checkpoints in msgpack are not supported.")


def _entry(mapping: Any, key: str, path: Path) -> dict[Any, Any]:
    """Return a dict out of a dict."""
    value = mapping.get(key) if isinstance(mapping, dict) else None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: {key} is {shown(value)}, expected a dict. Is it a checkpoint of RLlib?")
    return value


def _sort(weights: Any, prefixes: Mapping[str, str], path: Path) -> Parts:
    """Sort the weights by the part of the network they belong to, in the order of the layers."""
    parts: Parts = {}
    if not isinstance(weights, dict):
        raise CheckpointError(f"{path}: the weights are {shown(weights)}, expected a dict.")
    for name, value in weights.items():
        part = next((part for prefix, part in prefixes.items() if str(name).startswith(prefix)), None)
        if part is None:
            raise CheckpointError(f"{path}: got a weight {shown(name)}, expected those of RLlib's own networks only.")
        if part:
            parts.setdefault(part, []).append(to_array(value, f"{path}: weight {shown(name)}"))
    return parts


def _restore(network: Kwargs, observation_space: Space, action_space: Space, parts: Parts, path: Path) -> RLModule:
    """Build the network with these weights, each of which must fit."""
    with _blame(path), torch.device("meta"):  # without memory: the settings may ask for any amount
        targets = _targets(build(network, observation_space, action_space))
    for target, *names in targets:
        arrays = _arrays(parts, names)
        expected, got = [tuple(parameter.shape) for parameter in _parameters(target)], [array.shape for array in arrays]
        if expected != got or not all(np.isfinite(array).all() for array in arrays):
            place = f"{path}: {' and '.join(names)}"
            raise CheckpointError(f"{place}: got weights of shapes {got}, expected finite ones of {expected}.")
    surplus = set(parts) - {name for _, *names in targets for name in names}
    if surplus:
        raise CheckpointError(f"{path}: has weights for {sorted(surplus)}, which its model settings do not mention.")
    with torch.random.fork_rng(devices=[]):
        module = build(network, observation_space, action_space)
    with torch.no_grad():
        for target, *names in _targets(module):
            arrays = _arrays(parts, names)
            for parameter, array in zip(_parameters(target), arrays, strict=True):
                parameter.copy_(torch.tensor(array))
    return module


@contextmanager
def _blame(path: Path) -> Iterator[None]:
    """Turn errors of settings that fit no network into errors about the file."""
    try:
        yield
    except RLError:
        raise
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its model settings describe no network ({str(error)[:200]}).") from error


def _targets(module: RLModule) -> list[tuple[Any, ...]]:
    """List the parts of a module (modules, a parameter or None), each with the names of the weights it takes."""
    if isinstance(module, RllibNetwork):
        encoder, value_encoder = module.encoder, module.value_encoder
        targets: list[tuple[Any, ...]] = [(encoder.layers, "layers"), (encoder.lstm, "lstm")]
        if value_encoder is not None:
            targets += [(value_encoder.layers, "value_layers"), (value_encoder.lstm, "value_lstm")]
        heads = [(module.policy_head, "policy_head"), (module.value_head, "value_head")]
        return [*targets, *heads, (module.log_std, "log_std")]
    assert isinstance(module, ActorCritic), "the two kinds that are built"
    targets, policy, value = [(module.log_std, "log_std")], ("policy_head",), ("value_head",)
    if module.body is not None:
        trunk, value_trunk = module.body.policy, module.body.value
        targets += [(trunk.encoder, "layers"), (trunk.memory, "lstm")]
        if value_trunk is not None:
            targets += [(value_trunk.encoder, "value_layers"), (value_trunk.memory, "value_lstm")]
    elif module.trunk is not None:
        targets += [(module.trunk, "layers")]
    else:
        return [*targets, (module.policy, "layers", *policy), (module.value, "value_layers", *value)]
    return [*targets, (module.policy, *policy), (module.value, *value)]


def _arrays(parts: Parts, names: list[str]) -> list[Array]:
    """List the weights of some parts; a head that is a convolution of one pixel is a dense layer."""
    pairs = [(name, array) for name in names for array in parts.get(name, [])]
    is_pixel = [name.endswith("_head") and array.ndim == 4 and array.shape[2:] == (1, 1) for name, array in pairs]
    return [array.squeeze((2, 3)) if pixel else array for pixel, (_, array) in zip(is_pixel, pairs, strict=True)]


def _parameters(target: nn.Module | nn.Parameter | None) -> list[nn.Parameter]:
    """List the parameters in PyTorch's order: an LSTM has its weights before its biases."""
    if target is None or isinstance(target, nn.Parameter):
        return [] if target is None else [target]
    if isinstance(target, LSTM):
        return [target.weight_ih, target.weight_hh, target.bias_ih, target.bias_hh]
    return list(target.parameters())
