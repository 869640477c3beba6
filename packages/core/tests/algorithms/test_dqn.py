"""The losses of DQN against the published formulas, written out sample by sample."""

import copy
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_core import DQNConfig
from rl_core.algorithms.dqn import OBJECTIVE, DQNSettings, explore, losses
from rl_core.learning.replay_learner import Draw
from rl_core.replay.records import Sequences, Transitions
from rl_core.tree import tree_map

N, A, GAMMA = 9, 3, 0.9
OBS = spaces.Box(-1.0, 1.0, (4,), np.float32)
EXACT = {"rtol": 1e-9, "atol": 1e-11}


def make_module(model=None, **training):
    """A module in double precision, its targets, which differ, and the settings."""
    config = DQNConfig().training(gamma=GAMMA, **training)
    config.rl_module(model_config={"fcnet_hiddens": (6,), **(model or {})})
    module, other = (config.module_spec().build(OBS, spaces.Discrete(A), seed=seed).double() for seed in (0, 1))
    return module, {"q": other.q.requires_grad_(False)}, config.training.settings


def make_batch(seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    ends = torch.rand(N, generator=generator) < 0.4
    return Transitions(
        obs=normal(N, 4),
        action=torch.randint(A, (N,), generator=generator),
        reward=2 * normal(N),
        next_obs=normal(N, 4),
        discount=torch.where(ends, 0.0, GAMMA**2).double(),
        index=torch.arange(N),
        weight=torch.rand(N, generator=generator).double(),
    )


def draw(seed=0, step=0):
    return Draw(generator=torch.Generator().manual_seed(seed), step=step)


def largest(values):
    return max(range(len(values)), key=lambda action: values[action])


def grads(loss, module):
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return torch.autograd.grad(loss, parameters, allow_unused=True)


def penalty(error, kind):
    if kind == "mse":
        return error**2
    return error**2 / 2 if abs(float(error.detach())) <= 1 else error.abs() - 0.5


@pytest.mark.parametrize("prioritised", [False, True])
@pytest.mark.parametrize("kind", ["huber", "mse"])
@pytest.mark.parametrize("double_q", [False, True])
def test_loss_of_the_mean_is_the_published_one(double_q, kind, prioritised):
    buffer = {"type": "prioritized" if prioritised else "uniform"}
    module, targets, settings = make_module(double_q=double_q, td_error_loss_fn=kind, replay_buffer_config=buffer)
    batch = make_batch()
    result = losses(module, targets, batch, settings, draw())
    total, errors = 0.0, []
    for n in range(N):
        online, slow = module.q(batch.next_obs[n]).tolist(), targets["q"](batch.next_obs[n]).tolist()
        following = slow[largest(online)] if double_q else max(slow)
        target = float(batch.reward[n]) + float(batch.discount[n]) * following
        error = target - module.q(batch.obs[n])[batch.action[n]]
        errors.append(float(error.detach()))
        total = total + (batch.weight[n] if prioritised else 1.0) * penalty(error, kind)
    expected = total / N
    torch.testing.assert_close(result.by_group["q"], expected, **EXACT)
    torch.testing.assert_close(result.td_error, torch.tensor(errors).double(), rtol=1e-6, atol=1e-7)
    assert float(result.report["td_error"]) == pytest.approx(sum(map(abs, errors)) / N)
    torch.testing.assert_close(grads(result.by_group["q"], module), grads(expected, module), **EXACT)


@pytest.mark.parametrize("double_q", [False, True])
def test_loss_of_the_distribution_is_the_published_one(double_q):
    atoms, low, high = 7, -3.0, 3.0
    module, targets, settings = make_module(
        num_atoms=atoms,
        v_min=low,
        v_max=high,
        double_q=double_q,
        replay_buffer_config={"type": "prioritized"},
    )
    batch = make_batch()
    result = losses(module, targets, batch, settings, draw())
    step = (high - low) / (atoms - 1)
    support = [low + step * atom for atom in range(atoms)]
    total, entropies = 0.0, []
    for n in range(N):
        slow = targets["q"](batch.next_obs[n]).softmax(-1).tolist()  # [A, M]
        chooser = module.q(batch.next_obs[n]).softmax(-1).tolist() if double_q else slow
        best = largest([sum(p * z for p, z in zip(row, support, strict=True)) for row in chooser])
        target = [0.0] * atoms
        for probability, z in zip(slow[best], support, strict=True):  # Bellemare et al. 2017, algorithm 1
            moved = min(max(float(batch.reward[n]) + float(batch.discount[n]) * z, low), high)
            place = (moved - low) / step
            lower, upper = math.floor(place), math.ceil(place)
            if lower == upper:
                target[lower] += probability
            else:
                target[lower] += probability * (upper - place)
                target[upper] += probability * (place - lower)
        log_probability = module.q(batch.obs[n])[batch.action[n]].log_softmax(-1)
        entropy = -sum(share * log_probability[atom] for atom, share in enumerate(target))
        entropies.append(float(entropy.detach()))
        total = total + batch.weight[n] * entropy
    torch.testing.assert_close(result.by_group["q"], total / N, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(result.td_error, torch.tensor(entropies).double(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(grads(result.by_group["q"], module), grads(total / N, module), rtol=1e-5, atol=1e-7)


def test_noise_of_both_networks_is_drawn_anew_for_each_loss():
    module, targets, settings = make_module(noisy=True)
    heads = module.q.head, targets["q"].head
    seen = []
    for seed in (0, 0, 1):
        result = losses(module, targets, make_batch(), settings, draw(seed))
        seen.append((float(result.by_group["q"].detach()), heads[0].noise_in.clone(), heads[1].noise_in.clone()))
    assert seen[0][0] == seen[1][0] != seen[2][0]
    assert not torch.equal(seen[0][1], seen[0][2]), "noise of its own for the target network"
    for noise in (1, 2):
        assert not torch.equal(seen[1][noise], seen[2][noise])
    assert all(float(gradient.abs().sum()) > 0 for gradient in grads(result.by_group["q"], module))


@pytest.mark.parametrize("ranges", [1, 3, (1, 4)])
@pytest.mark.parametrize("double_q", [False, True])
def test_loss_of_sequences_is_the_published_one(double_q, ranges):
    burn_in, length, count = 2, 5, 4
    model = {"use_gru": True, "lstm_cell_size": 5}
    module, targets, settings = make_module(model, double_q=double_q, n_step=ranges, burn_in_len=burn_in)
    generator = torch.Generator().manual_seed(3)
    rows = burn_in + length
    terminated, truncated = torch.zeros(2, rows, count, dtype=torch.bool)
    valid = torch.ones(rows, count, dtype=torch.bool)
    terminated[3, 0] = True  # the episode ends after two steps that count
    valid[4:, 0] = False
    truncated[5, 1] = True
    valid[5:, 1] = False  # its true next observation is not there
    valid[1:, 2] = False  # over before the burn-in is
    batch = Sequences(
        obs=torch.randn(rows + 1, count, 4, generator=generator).double(),
        action=torch.randint(A, (rows, count), generator=generator),
        reward=torch.randn(rows, count, generator=generator).double() * valid,
        terminated=terminated,
        truncated=truncated,
        valid=valid,
        state=(torch.randn(count, 5, generator=generator).double(),),
        index=torch.arange(count),
        weight=torch.tensor([0.3, 1.0, 0.7, 0.5]).double(),
    )
    result = losses(module, targets, batch, settings, draw(seed=7))
    if isinstance(ranges, int):
        n_step = ranges
    else:
        n_step = int(torch.randint(ranges[0], ranges[1] + 1, (), generator=torch.Generator().manual_seed(7)))
    total, num_samples, priorities = 0.0, 0, []
    for s in range(count):
        value, slow = (unrolled(net, batch, s, burn_in) for net in (module.q, targets["q"]))
        errors = []
        for t in range(burn_in, rows):
            if not valid[t, s]:
                break
            target, factor, last = 0.0, 1.0, t
            for last in range(t, min(t + n_step, rows)):
                target += factor * float(batch.reward[last, s])
                factor *= GAMMA
                if last + 1 == rows or terminated[last, s] or truncated[last, s] or not valid[last + 1, s]:
                    break
            if not terminated[last, s]:
                chooser = value if double_q else slow
                target += factor * float(slow[last + 1][largest(chooser[last + 1].tolist())])
            error = target - value[t][batch.action[t, s]]
            errors.append(abs(float(error.detach())))
            total, num_samples = total + batch.weight[s] * penalty(error, "huber"), num_samples + 1
        priorities.append(0.9 * max(errors) + 0.1 * sum(errors) / len(errors) if errors else 0.0)
    expected = total / num_samples
    torch.testing.assert_close(result.by_group["q"], expected, **EXACT)
    torch.testing.assert_close(result.td_error, torch.tensor(priorities).double(), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(grads(result.by_group["q"], module), grads(expected, module), **EXACT)


def unrolled(net, batch, s, burn_in):
    """Action values of each row of one sequence; no gradient flows through the burn-in."""
    state = tree_map(lambda leaf: leaf[s : s + 1], batch.state)
    values = []
    for t, obs in enumerate(batch.obs[:, s : s + 1]):
        features, state = net.trunk.step(obs, state)
        if t < burn_in:
            state = tree_map(torch.Tensor.detach, state)
        values.append(net.outputs(features)[0])
    return values


def test_targets_get_no_gradient_and_the_batch_stays_as_it_is():
    module, targets, settings = make_module()
    targets["q"].requires_grad_(True)
    batch = make_batch()
    before = copy.deepcopy(batch)
    loss = losses(module, targets, batch, settings, draw()).by_group["q"]
    assert all(gradient is None for gradient in grads(loss, targets["q"]))
    for name in ("obs", "action", "reward", "next_obs", "discount", "weight"):
        assert torch.equal(getattr(before, name), getattr(batch, name))


def test_explore_sets_epsilon_by_its_schedule():
    module, _, _ = make_module()
    settings = DQNSettings(epsilon=((10.0, 0.8), (20.0, 0.2)))
    for env_steps, epsilon in ((0, 0.8), (15, 0.5), (99, 0.2)):
        explore(module, settings, env_steps)
        assert float(module.epsilon) == pytest.approx(epsilon)


def test_everything_reported_is_declared():
    module, targets, settings = make_module()
    assert set(losses(module, targets, make_batch(), settings, draw()).report) == set(OBJECTIVE.report)
