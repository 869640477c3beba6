"""Conformance check of an RLModule: what env runners, learners, checkpoints and inference rely on."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from rl_core.errors import RLError
from rl_core.module.rl_module import RLModule
from rl_core.tree import Tree, tree_leaves, tree_map

_BATCH = 5
_NUM_STEPS = 6
_TOLERANCE = 1e-4
_NUM_DENSITY_SAMPLES = 4096
_NUM_GRADIENT_DRAWS = 8


class ModuleCheckError(RLError, AssertionError):
    """A module breaks a rule that the library relies on."""


def check_module(
    module: RLModule | type[RLModule], observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> None:
    """Check that a module keeps the rules of `RLModule`; call it in your tests.

    It checks shapes, types and finiteness, that rows of a batch do not influence each other, that outputs repeat, that
    a whole segment gives the numbers of its single steps if there is a memory, that actions and their probabilities
    belong together, that gradients reach every parameter, that the weights survive `state_dict` and `load_state_dict`,
    and that no device is kept.

    Args:
        module: An instance, which stays as it is, or a class to be made from the two spaces.
        observation_space: Of one observation, as the module gets it from the connectors.
        action_space: Of one action.

    Raises:
        ModuleCheckError: names the first rule that is broken, and what to do.
    """
    made = module if isinstance(module, RLModule) else module(observation_space, action_space)
    name = type(made).__name__
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        checked = copy.deepcopy(made)
        _check_registered(name, checked)
        with torch.no_grad():
            for parameter in checked.parameters():  # off zero and off symmetry, so that dead paths are told from zeros
                parameter.add_(0.01 * torch.randn_like(parameter))
        device = next((tensor.device for tensor in checked.parameters()), torch.device("cpu"))
        obs = _observations(observation_space, device)
        _check_outputs(name, checked, obs)
        if checked.is_recurrent:
            _check_steps(name, checked, _segment(obs))
        else:
            _check_train(name, checked, obs)
        _check_rows(name, checked, obs)
        _check_distribution(name, checked, obs, action_space)
        _check_gradients(name, checked, obs)
        _check_state_dict(name, checked, obs)


def _check_registered(name: str, module: RLModule) -> None:
    """Every tensor is a parameter or a buffer, under one name, and nothing remembers a device."""
    for path, part in module.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, torch.device):
                _fail(name, f"{_join(path, key)} keeps the device {value}", "take the device of the inputs instead")
            if isinstance(value, Tensor):
                _fail(
                    name,
                    f"{_join(path, key)} is a tensor that is not registered",
                    "use register_buffer or nn.Parameter",
                )
    owners: dict[int, str] = {}
    for key, tensor in module.state_dict().items():
        other = owners.setdefault(tensor.data_ptr(), key) if tensor.numel() else key
        if other != key:
            _fail(
                name,
                f"{other} and {key} are the same tensor",
                "register a shared part once, or a checkpoint holds it twice",
            )


def _check_outputs(name: str, module: RLModule, obs: Tree) -> None:
    """Shapes, types, finiteness and agreement of the three forward methods."""
    num_inputs = module.distribution.num_inputs
    dist_inputs, state = _policy(module, obs)
    value = _value(module, obs)
    _check_tensor(name, "forward_policy's distribution inputs", dist_inputs, (_BATCH, num_inputs))
    _check_tensor(name, "forward_value's result", value, (_BATCH,))
    for leaf in tree_leaves(state):
        if tuple(leaf.shape[:1]) != (_BATCH,):
            _fail(
                name,
                f"a state of shape {tuple(leaf.shape)} came back for {_BATCH} rows",
                "give it a leading axis [B, ...]",
            )
    start = module.initial_state(_BATCH)
    if _shapes(state) != _shapes(start):
        _fail(
            name,
            f"forward_policy returned a state of shapes {_shapes(state)}, initial_state has {_shapes(start)}",
            "return the state in the form in which it comes, `()` for a feed-forward module",
        )
    if not torch.equal(dist_inputs, _policy(module, obs)[0]) or not torch.equal(value, _value(module, obs)):
        _fail(
            name, "equal observations gave different outputs", "leave dropout and other noise out of the forward pass"
        )


def _check_train(name: str, module: RLModule, obs: Tree) -> None:
    """Without memory, `forward_train` agrees with the other two and takes any leading axes."""
    dist_inputs, value = _policy(module, obs)[0], _value(module, obs)
    train_inputs, train_value = _detached(module.forward_train(obs))
    if train_inputs.shape != dist_inputs.shape or train_value.shape != value.shape:
        _fail(
            name,
            f"forward_train gave {tuple(train_inputs.shape)} and {tuple(train_value.shape)}",
            "give [..., P] and [...]",
        )
    if not (_close(train_inputs, dist_inputs) and _close(train_value, value)):
        _fail(name, "forward_train differs from forward_policy and forward_value", "compute the same in all three")
    tall = tree_map(lambda leaf: torch.stack((leaf, leaf)), obs)
    what = f"observations with two leading axes [2, {_BATCH}, ...]"
    try:
        inputs, values = _detached(module.forward_train(tall))
    except (RuntimeError, ValueError, IndexError) as error:
        raise ModuleCheckError(
            f"check_module({name}): {what} raise {type(error).__name__}: {error}. Flatten the leading axes first and "
            "restore them at the end."
        ) from error
    if inputs.shape != (2, *dist_inputs.shape) or values.shape != (2, *value.shape):
        _fail(name, f"{what} gave shapes {tuple(inputs.shape)} and {tuple(values.shape)}", "keep the leading axes")
    if not (_close(inputs[1], dist_inputs) and _close(values[1], value)):
        _fail(name, f"{what} gave other numbers than the same rows as [{_BATCH}, ...]", "mind the order of the axes")


def _check_steps(name: str, module: RLModule, segment: Tree) -> None:
    """With memory, `forward_train` on a segment gives what the single steps give, from any state."""
    state = module.initial_state(_BATCH)
    states, steps = [], []
    with torch.no_grad():
        for t in range(_NUM_STEPS):
            obs = tree_map(lambda leaf, t=t: leaf[t], segment)
            states.append(state)
            value = module.forward_value(obs, state)
            dist_inputs, state = module.forward_policy(obs, state)
            steps.append((dist_inputs, value))
        if _shapes(state) != _shapes(states[0]):
            _fail(name, f"the state grew to {_shapes(state)} from {_shapes(states[0])}", "keep its shapes")
        for first in (0, 2):
            rest = tree_map(lambda leaf, first=first: leaf[first:], segment)
            results = module.forward_train(rest, states[first])
            expected = [torch.stack(column) for column in zip(*steps[first:], strict=True)]
            for what, got, want in zip(("distribution inputs", "values"), results, expected, strict=True):
                if got.shape != want.shape:
                    _fail(
                        name, f"forward_train gave {what} {tuple(got.shape)}", f"give {tuple(want.shape)}: [L, S, ...]"
                    )
                if not _close(got, want):
                    _fail(
                        name,
                        f"forward_train's {what} of a segment differ from those of its single steps",
                        "start it from the given state and carry the state through the steps as forward_policy does",
                    )
        one = tree_map(lambda leaf: leaf[:, 1:2], segment)
        alone = module.forward_train(one, tree_map(lambda leaf: leaf[1:2], states[0]))
        if not all(
            _close(a[:, 0], b[:, 1]) for a, b in zip(alone, module.forward_train(segment, states[0]), strict=True)
        ):
            _fail(name, "a segment alone gives other numbers than in a batch", "rows must not influence each other")


def _check_rows(name: str, module: RLModule, obs: Tree) -> None:
    """A row's output depends on that row alone."""
    full, value = _policy(module, obs)[0], _value(module, obs)
    one = tree_map(lambda leaf: leaf[1:2], obs)
    if not (_close(_policy(module, one, 1)[0], full[1:2]) and _close(_value(module, one, 1), value[1:2])):
        _fail(
            name,
            "a row alone gives another output than the same row in a batch",
            "rows must not influence each other: no batch normalisation, no statistics over the batch",
        )


def _check_distribution(name: str, module: RLModule, obs: Tree, space: spaces.Space[Any]) -> None:
    """Actions repeat given their noise, fit the space, and have the probability they are drawn with."""
    distribution = module.distribution
    dist_inputs = _policy(module, obs)[0]
    generator = torch.Generator(dist_inputs.device).manual_seed(0)
    noise = distribution.noise((_BATCH,), generator)
    action = distribution.sample(dist_inputs, noise)
    again = distribution.sample(dist_inputs, noise)
    if not all(torch.equal(a, b) for a, b in zip(tree_leaves(action), tree_leaves(again), strict=True)):
        _fail(name, "equal inputs and noise gave different actions", "draw all randomness in Distribution.noise")
    for what, tree in (("an action", action), ("a mode", distribution.mode(dist_inputs))):
        _check_action(name, what, tree, space)
    log_prob, entropy = distribution.log_prob_and_entropy(dist_inputs, action)
    _check_tensor(name, "log_prob", log_prob, (_BATCH,))
    _check_tensor(name, "entropy", entropy, (_BATCH,))
    if not _close(log_prob, distribution.log_prob(dist_inputs, action)):
        _fail(name, "log_prob_and_entropy and log_prob differ", "compute the same in both")
    if not _close(distribution.kl(dist_inputs, dist_inputs), torch.zeros_like(log_prob)):
        _fail(name, "the KL divergence of a distribution from itself is not zero", "check Distribution.kl")
    # What is sampled must be what log_prob describes: then -log_prob of many samples averages to the entropy.
    many = dist_inputs[:1].expand(_NUM_DENSITY_SAMPLES, -1)
    samples = distribution.sample(many, distribution.noise((_NUM_DENSITY_SAMPLES,), generator))
    surprise = -distribution.log_prob(many, samples)
    tolerance = 5 * surprise.std() / _NUM_DENSITY_SAMPLES**0.5 + 0.05 * (1 + entropy[0].abs())
    if (surprise.mean() - entropy[0]).abs() > tolerance:
        _fail(
            name,
            f"-log_prob of samples averages to {surprise.mean():.3f}, but the entropy is {entropy[0]:.3f}",
            "check that sample, log_prob and entropy of the distribution describe the same one",
        )


def _check_action(name: str, what: str, action: Tree, space: spaces.Space[Any], path: str = "") -> None:
    """An action has the structure, shape and kind of its space; Discrete counts from 0 whatever the space's start."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in parts:
            _check_action(name, what, action[key], part, f"{path}[{key!r}]")
        return
    if tuple(action.shape) != (_BATCH, *(space.shape or ())):
        _fail(
            name, f"{what}{path} has shape {tuple(action.shape)}", f"the space wants {(_BATCH, *(space.shape or ()))}"
        )
    counts = space.n if isinstance(space, spaces.Discrete) else getattr(space, "nvec", None)
    if counts is not None:
        if action.dtype != torch.int64:
            _fail(name, f"{what}{path} has dtype {action.dtype}", "choices are int64")
        if (action < 0).any() or (action.cpu().numpy() >= counts).any():
            _fail(name, f"{what}{path} is {action.tolist()}", f"choices go from 0 to below {counts}")


def _check_gradients(name: str, module: RLModule, obs: Tree) -> None:
    """The loss of a policy and value update moves every parameter that wants a gradient.

    A narrow layer of ReLUs may happen to be silent for all observations at hand, so a parameter counts as unused only
    if none of several draws of the weights moves it.
    """
    idle = {key for key, parameter in module.named_parameters() if parameter.requires_grad}
    for draw in range(_NUM_GRADIENT_DRAWS):
        tried = copy.deepcopy(module)
        with torch.no_grad():
            for parameter in tried.parameters():
                parameter.add_(0.2 * draw * torch.randn_like(parameter))
        _backward(tried, obs)
        for key, parameter in tried.named_parameters():
            if parameter.grad is None:
                continue
            if not parameter.grad.isfinite().all():
                _fail(name, f"the gradient of {key} is not finite", "look for log(0), sqrt(0) or division by 0")
            if parameter.grad.any():
                idle.discard(key)
        if not idle:
            return
    key = next(key for key, _ in module.named_parameters() if key in idle)
    _fail(name, f"no gradient reaches {key}", "use it in the forward pass, drop it, or requires_grad_(False)")


def _backward(module: RLModule, obs: Tree) -> None:
    """Compute the gradients of a loss of all that the module gives."""
    distribution = module.distribution
    start = module.initial_state(_BATCH)
    if module.is_recurrent:
        dist_inputs, value = module.forward_train(_segment(obs), start)
    else:
        dist_inputs, value = module.forward_policy(obs, start)[0], module.forward_value(obs, start)
    generator = torch.Generator(dist_inputs.device).manual_seed(1)
    noise = distribution.noise(tuple(value.shape), generator)
    action = tree_map(Tensor.detach, distribution.sample(dist_inputs, noise))
    log_prob, entropy = distribution.log_prob_and_entropy(dist_inputs, action)
    weights = torch.linspace(0.5, 1.5, _BATCH, device=value.device)
    module.zero_grad()
    ((log_prob + 0.1 * entropy + value) * weights).sum().backward()  # type: ignore[no-untyped-call]


def _check_state_dict(name: str, module: RLModule, obs: Tree) -> None:
    """A copy with other weights becomes the same module through `load_state_dict`."""
    other = copy.deepcopy(module)
    with torch.no_grad():
        for tensor in (*other.parameters(), *other.buffers()):
            if tensor.is_floating_point():
                tensor.add_(1.0)
    other.load_state_dict(copy.deepcopy(module.state_dict()))
    same = torch.equal(_policy(other, obs)[0], _policy(module, obs)[0])
    if not same or not torch.equal(_value(other, obs), _value(module, obs)):
        _fail(
            name,
            "after load_state_dict the outputs differ",
            "register all that the outputs depend on as persistent parameters or buffers",
        )


def _check_tensor(name: str, what: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """A result is a float tensor of the expected shape without NaN and infinities."""
    got = tuple(getattr(tensor, "shape", (type(tensor).__name__,)))
    if got != shape:
        hint = "squeeze the last axis" if got == (*shape, 1) else "check the last layer's size"
        _fail(name, f"{what} has shape {got}, expected {shape}", hint)
    if not tensor.is_floating_point():
        _fail(name, f"{what} has dtype {tensor.dtype}", "return floating-point numbers")
    if not tensor.isfinite().all():
        _fail(
            name,
            f"{what} is not finite for samples of the observation space",
            "scale observations, check logs and roots",
        )


def _observations(space: spaces.Space[Any], device: torch.device) -> Tree:
    """Draw `[B, ...]` observations from a copy of the space, as tensors."""
    space = copy.deepcopy(space)
    space.seed(0)
    rows = [space.sample() for _ in range(_BATCH)]
    return tree_map(lambda *leaves: torch.from_numpy(np.stack(leaves)).to(device), *rows)


def _segment(obs: Tree) -> Tree:
    """Make segments `[L, B, ...]` of observations `[B, ...]`, each step with the rows moved on by one."""
    return tree_map(lambda leaf: torch.stack([leaf.roll(t, 0) for t in range(_NUM_STEPS)]), obs)


def _policy(module: RLModule, obs: Tree, batch_size: int = _BATCH) -> tuple[Tensor, Tree]:
    with torch.no_grad():
        return module.forward_policy(obs, module.initial_state(batch_size))


def _value(module: RLModule, obs: Tree, batch_size: int = _BATCH) -> Tensor:
    with torch.no_grad():
        return module.forward_value(obs, module.initial_state(batch_size))


def _detached(tensors: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return tensors[0].detach(), tensors[1].detach()


def _close(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, rtol=_TOLERANCE, atol=_TOLERANCE)


def _shapes(tree: Tree) -> Tree:
    return tree_map(lambda leaf: tuple(leaf.shape), tree) if tuple(tree_leaves(tree)) else ()


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _fail(name: str, fact: str, advice: str) -> None:
    raise ModuleCheckError(f"check_module({name}): {fact}. Advice: {advice}.")
