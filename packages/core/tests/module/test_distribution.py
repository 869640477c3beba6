import math

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions as reference

from rl_core.errors import UnsupportedSpaceError
from rl_core.module.distribution import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    Nested,
    SquashedGaussian,
    distribution_for,
)
from rl_core.tree import tree_leaves, tree_map

LOW, HIGH = np.array([-2.0, 0.0, 1.0], np.float32), np.array([2.0, 0.5, 4.0], np.float32)
FAMILIES = {
    "categorical": Categorical(5),
    "multi_equal": MultiCategorical([3, 3]),
    "multi_unequal": MultiCategorical([2, 5, 3]),
    "multi_grid": MultiCategorical(np.array([[2, 3], [4, 2]])),
    "bernoulli": Bernoulli((2, 3)),
    "gaussian": DiagonalGaussian((3,)),
    "gaussian_scalar": DiagonalGaussian(()),
    "gaussian_grid": DiagonalGaussian((2, 2)),
    "squashed": SquashedGaussian(LOW, HIGH),
    "nested": Nested({"move": Categorical(3), "aim": (DiagonalGaussian((2,)), Bernoulli(2))}),
}
EVENT_SHAPES = {
    "categorical": (),
    "multi_equal": (2,),
    "multi_unequal": (3,),
    "multi_grid": (2, 2),
    "bernoulli": (2, 3),
    "gaussian": (3,),
    "gaussian_scalar": (),
    "gaussian_grid": (2, 2),
    "squashed": (3,),
}
family = pytest.mark.parametrize("name", FAMILIES)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def inputs_for(distribution, *leading, seed=0, scale=1.0):
    return scale * torch.randn(*leading, distribution.num_inputs, generator=generator(seed))


def close(first, second, tolerance=1e-5):
    torch.testing.assert_close(first, second, atol=tolerance, rtol=tolerance)


def as_reference(name, inputs):
    """The distribution of torch.distributions with the same inputs, over flattened events."""
    distribution = FAMILIES[name]
    if name == "categorical":
        return reference.Categorical(logits=inputs)
    if name == "bernoulli":
        return reference.Independent(reference.Bernoulli(logits=inputs), 1)
    mean, log_std = inputs.chunk(2, -1)
    normal = reference.Independent(reference.Normal(mean, log_std.clamp(-20, 2).exp()), 1)
    if name != "squashed":
        assert isinstance(distribution, DiagonalGaussian)
        return normal
    low, high = torch.from_numpy(LOW), torch.from_numpy(HIGH)
    to_bounds = reference.AffineTransform((low + high) / 2, (high - low) / 2, event_dim=1)
    return reference.TransformedDistribution(normal, [reference.TanhTransform(), to_bounds])


@pytest.mark.parametrize(
    "name", ["categorical", "bernoulli", "gaussian", "gaussian_scalar", "gaussian_grid", "squashed"]
)
def test_log_prob_entropy_and_kl_agree_with_torch(name):
    distribution = FAMILIES[name]
    # torch's squashed density is NaN where tanh saturates, hence double precision and a modest scale
    inputs, other = (inputs_for(distribution, 4, 7, seed=seed, scale=0.3).double() for seed in (0, 1))
    action = distribution.sample(inputs, distribution.noise((4, 7), generator()))
    expected = as_reference(name, inputs)
    flat = action if name == "categorical" else action.reshape(4, 7, -1).double()
    close(distribution.log_prob(inputs, action), expected.log_prob(flat))
    if name != "squashed":  # torch has neither for transformed distributions
        close(distribution.entropy(inputs), expected.entropy())
        close(distribution.kl(inputs, other), reference.kl_divergence(expected, as_reference(name, other)))


def test_multi_categorical_is_the_sum_of_its_choices():
    distribution = FAMILIES["multi_unequal"]
    inputs, other = inputs_for(distribution, 6), inputs_for(distribution, 6, seed=1)
    action = distribution.sample(inputs, distribution.noise((6,), generator()))
    parts = [reference.Categorical(logits=part) for part in inputs.split([2, 5, 3], -1)]
    others = [reference.Categorical(logits=part) for part in other.split([2, 5, 3], -1)]
    close(distribution.log_prob(inputs, action), sum(part.log_prob(action[:, i]) for i, part in enumerate(parts)))
    close(distribution.entropy(inputs), sum(part.entropy() for part in parts))
    close(distribution.kl(inputs, other), sum(map(reference.kl_divergence, parts, others)))
    assert (action < torch.tensor([2, 5, 3])).all()


def test_nested_is_the_sum_of_its_parts():
    tree = {"a": Categorical(3), "b": (DiagonalGaussian((2,)), Bernoulli(2))}
    distribution = Nested(tree)
    inputs, other = inputs_for(distribution, 5), inputs_for(distribution, 5, seed=1)
    action = distribution.sample(inputs, distribution.noise((5,), generator()))
    pieces, others = inputs.split([3, 4, 2], -1), other.split([3, 4, 2], -1)
    parts, actions = list(tree_leaves(tree)), list(tree_leaves(action))
    close(
        distribution.log_prob(inputs, action),
        sum(p.log_prob(i, a) for p, i, a in zip(parts, pieces, actions, strict=True)),
    )
    close(distribution.entropy(inputs), sum(p.entropy(i) for p, i in zip(parts, pieces, strict=True)))
    close(distribution.kl(inputs, other), sum(p.kl(i, o) for p, i, o in zip(parts, pieces, others, strict=True)))
    assert distribution.log_std_positions == (5, 6)


@family
def test_shapes_follow_the_leading_axes_and_samples_repeat(name):
    distribution = FAMILIES[name]
    for leading in ((), (3,), (2, 3)):
        inputs, noise = inputs_for(distribution, *leading), distribution.noise(leading, generator())
        action = distribution.sample(inputs, noise)
        again = distribution.sample(inputs, noise)
        assert all(torch.equal(a, b) for a, b in zip(tree_leaves(action), tree_leaves(again), strict=True))
        if name in EVENT_SHAPES:
            assert action.shape == distribution.mode(inputs).shape == (*leading, *EVENT_SHAPES[name])
        for result in (*distribution.log_prob_and_entropy(inputs, action), distribution.kl(inputs, inputs)):
            assert result.shape == leading


@family
def test_no_device_is_kept(name):
    distribution = FAMILIES[name]
    inputs = inputs_for(distribution, 3).to("meta")
    noise = tree_map(lambda leaf: leaf.to("meta"), distribution.noise((3,), generator()))
    action = distribution.sample(inputs, noise)
    results = (*tree_leaves(action), *tree_leaves(distribution.mode(inputs)), distribution.kl(inputs, inputs))
    assert all(leaf.is_meta for leaf in (*results, *distribution.log_prob_and_entropy(inputs, action)))


@family
def test_noise_of_a_rollout_can_be_cut_into_steps(name):
    distribution = FAMILIES[name]
    inputs, noise = inputs_for(distribution, 4, 3), distribution.noise((4, 3), generator())
    whole = distribution.sample(inputs, noise)
    for t in range(4):
        step = distribution.sample(inputs[t], tree_map(lambda leaf, t=t: leaf[t], noise))
        assert all(torch.equal(a[t], b) for a, b in zip(tree_leaves(whole), tree_leaves(step), strict=True))


@family
def test_shared_work_gives_the_separate_results(name):
    distribution = FAMILIES[name]
    inputs = inputs_for(distribution, 9)
    action = distribution.sample(inputs, distribution.noise((9,), generator()))
    log_prob, entropy = distribution.log_prob_and_entropy(inputs, action)
    close(log_prob, distribution.log_prob(inputs, action))
    close(entropy, distribution.entropy(inputs))


@family
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_entropy_agrees_with_monte_carlo(name, scale):
    distribution = FAMILIES[name]
    inputs = inputs_for(distribution, seed=3, scale=scale).expand(40_000, -1)
    surprise = -distribution.log_prob(inputs, distribution.sample(inputs, distribution.noise((40_000,), generator())))
    tolerance = 5 * surprise.std() / 200 + (0.05 if name == "squashed" else 0)
    assert abs(surprise.mean() - distribution.entropy(inputs)[0]) < tolerance


@family
def test_kl_agrees_with_monte_carlo(name):
    distribution = FAMILIES[name]
    inputs = inputs_for(distribution, seed=3, scale=0.5).expand(40_000, -1)
    other = inputs_for(distribution, seed=4, scale=0.5).expand(40_000, -1)
    action = distribution.sample(inputs, distribution.noise((40_000,), generator()))
    ratio = distribution.log_prob(inputs, action) - distribution.log_prob(other, action)
    assert abs(ratio.mean() - distribution.kl(inputs, other)[0]) < 5 * ratio.std() / 200 + 1e-3


@pytest.mark.parametrize(("name", "values"), [("categorical", 5), ("bernoulli", 2)])
def test_sample_frequencies_are_the_probabilities(name, values):
    distribution = Categorical(5) if name == "categorical" else Bernoulli(1)
    inputs = inputs_for(distribution, seed=5)
    noise = distribution.noise((100_000,), generator())
    counts = torch.bincount(distribution.sample(inputs.expand(100_000, -1), noise).flatten().long(), minlength=values)
    expected = inputs.softmax(-1) if values == 5 else torch.stack((1 - inputs.sigmoid(), inputs.sigmoid())).flatten()
    deviation = (expected * (1 - expected) / 100_000).sqrt()
    assert ((counts / 100_000 - expected).abs() < 5 * deviation).all()


logits = st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=6)


@given(logits)
def test_categorical_probabilities_sum_to_one(values):
    inputs = torch.tensor(values)
    every = torch.arange(len(values))
    log_probs = Categorical(len(values)).log_prob(inputs.expand(len(values), -1), every)
    assert math.isclose(log_probs.exp().sum(), 1.0, abs_tol=1e-5)


@given(logits, st.randoms(use_true_random=False))
def test_kl_is_never_negative_and_zero_with_itself(values, random):
    shuffled = random.sample(values, len(values))
    inputs, other = torch.tensor(values), torch.tensor(shuffled)
    size = len(values)
    for distribution in (Categorical(size), Bernoulli(size), *([DiagonalGaussian((size // 2,))] * (size % 2 == 0))):
        assert distribution.kl(inputs, other) >= -1e-4
        assert abs(distribution.kl(inputs, inputs)) < 1e-5


def by_autograd(distribution, inputs, action):
    inputs = inputs.clone().requires_grad_()
    log_prob, entropy = distribution.log_prob_and_entropy(inputs, action)
    score, slope = (torch.autograd.grad(each.sum(), inputs, retain_graph=True)[0] for each in (log_prob, entropy))
    return log_prob.detach(), entropy.detach(), score, slope


@family
@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0])
def test_scores_are_those_of_autograd(name, scale):
    distribution = FAMILIES[name]
    inputs = inputs_for(distribution, 64, scale=scale)
    action = distribution.sample(inputs, distribution.noise((64,), generator(1)))
    with torch.inference_mode():
        scores = distribution.scores(inputs, action)
        found = (*scores[:3], scores.entropy_slope())
    for given_, wanted in zip(found, by_autograd(distribution, inputs, action), strict=True):
        assert not given_.requires_grad
        size = wanted.abs().max().clamp(min=1.0)  # densities far from the mean are large, and so are their roundings
        close(given_ / size, wanted / size, 2e-6)


@pytest.mark.parametrize("base", [Categorical, DiagonalGaussian])
def test_family_that_changes_another_has_scores_of_its_own(base):
    class Tempered(base):
        def log_prob_and_entropy(self, inputs, action):
            return super().log_prob_and_entropy(0.5 * inputs, action)

    distribution = Tempered(3) if base is Categorical else Tempered((3,))
    inputs = inputs_for(distribution, 16)
    action = distribution.sample(inputs, distribution.noise((16,), generator(1)))
    scores = distribution.scores(inputs, action)
    close((*scores[:3], scores.entropy_slope()), by_autograd(distribution, inputs, action))


@family
@pytest.mark.parametrize("extreme", [1e3, 1e6])
def test_gradients_are_finite_at_extreme_inputs(name, extreme):
    distribution = FAMILIES[name]
    inputs = (torch.randn(8, distribution.num_inputs, generator=generator()).sign() * extreme).requires_grad_()
    with torch.no_grad():
        action = distribution.sample(inputs, distribution.noise((8,), generator()))
    log_prob, entropy = distribution.log_prob_and_entropy(inputs, action)
    kl = distribution.kl(inputs, inputs.detach())
    (log_prob + entropy + kl).sum().backward()
    assert all(tensor.isfinite().all() for tensor in (log_prob, entropy, kl, inputs.grad))


def test_forbidden_choices_are_never_taken_and_leave_everything_finite():
    inputs = torch.tensor([0.3, torch.finfo(torch.float32).min, -0.2]).expand(1000, -1).clone().requires_grad_()
    distribution = Categorical(3)
    action = distribution.sample(inputs, distribution.noise((1000,), generator()))
    assert (action != 1).all()
    log_prob, entropy = distribution.log_prob_and_entropy(inputs, action)
    (log_prob + entropy).sum().backward()
    assert inputs.grad.isfinite().all()
    close(entropy, Categorical(2).entropy(inputs[:, [0, 2]]))
    scores = distribution.scores(inputs.detach(), action)
    close(scores.score + scores.entropy_slope(), inputs.grad)


@given(st.floats(-1e4, 1e4, width=32), st.floats(-30, 10, width=32))
def test_squashed_actions_stay_inside_the_bounds(mean, log_std):
    distribution = FAMILIES["squashed"]
    inputs = torch.tensor([mean] * 3 + [log_std] * 3).expand(64, -1)
    low, high = torch.from_numpy(LOW), torch.from_numpy(HIGH)
    for action in (distribution.sample(inputs, distribution.noise((64,), generator())), distribution.mode(inputs)):
        assert (action >= low).all()
        assert (action <= high).all()
        assert distribution.log_prob(inputs, action).isfinite().all()
    for bound in (low, high):
        assert distribution.log_prob(inputs, bound.expand(64, -1)).isfinite().all()


def test_squashed_density_integrates_to_one():
    distribution = SquashedGaussian(np.array([-1.0], np.float32), np.array([3.0], np.float32))
    actions = torch.linspace(-1, 3, 20_001)[1:-1, None]
    density = distribution.log_prob(torch.tensor([0.4, -0.5]).expand(len(actions), -1), actions).exp()
    assert math.isclose(density.sum() * 4 / 20_000, 1.0, abs_tol=1e-3)


def test_gaussian_clamps_the_log_std():
    distribution = DiagonalGaussian((1,), log_std_bounds=(-1.0, 1.0))
    close(distribution.entropy(torch.tensor([0.0, 9.0])), distribution.entropy(torch.tensor([0.0, 1.0])))
    close(distribution.entropy(torch.tensor([0.0, -9.0])), distribution.entropy(torch.tensor([0.0, -1.0])))


def test_distribution_for_every_action_space():
    spaces = gymnasium.spaces
    box = spaces.Box(-1, 1, (2, 3))
    assert isinstance(distribution_for(spaces.Discrete(4, start=3)), Categorical)
    assert isinstance(distribution_for(spaces.MultiDiscrete([2, 3])), MultiCategorical)
    assert isinstance(distribution_for(spaces.MultiBinary((2, 2))), Bernoulli)
    assert distribution_for(box).num_inputs == 12
    assert isinstance(distribution_for(box, squash=True), SquashedGaussian)
    nested = distribution_for(spaces.Dict(a=spaces.Discrete(2), b=spaces.Tuple((box, spaces.Discrete(3)))))
    assert nested.num_inputs == 2 + 12 + 3


@pytest.mark.parametrize(
    ("space", "squash", "words"),
    [
        (gymnasium.spaces.Text(4), False, ["action space", "Text", "MultiDiscrete", "RLModule"]),
        (gymnasium.spaces.Dict(arm=gymnasium.spaces.Text(4)), False, ["action space['arm']", "Text"]),
        (gymnasium.spaces.Box(0, 9, (2,), np.int32), False, ["a Box of floats"]),
        (gymnasium.spaces.Box(-np.inf, np.inf, (2,)), True, ["finite", "do not squash"]),
    ],
)
def test_unsupported_spaces_are_named(space, squash, words):
    with pytest.raises(UnsupportedSpaceError) as error:
        distribution_for(space, squash=squash)
    assert all(word in str(error.value) for word in words)
