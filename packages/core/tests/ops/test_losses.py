import math

import pytest
import torch
from clipped_loss import ClippedLoss, clipped_loss
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_core.ops.losses import KnownGradients, LossCoefficients, write_gradients

NAMES = ("log_prob", "entropy", "value", "behavior_log_prob", "behavior_value", "advantage", "value_target")
LEARNED = NAMES[:3]


def plain_loss(log_prob, entropy, value, behavior_log_prob, behavior_value, advantage, value_target, coefficients):
    """The same terms as everybody writes them, left to autograd."""
    clip, value_clip, value_coeff, entropy_coeff = coefficients
    ratio = torch.exp(log_prob - behavior_log_prob)
    policy = -torch.min(ratio * advantage, torch.clamp(ratio, 1 - clip, 1 + clip) * advantage).mean()
    squared = (value - value_target) ** 2
    if value_clip is not None:
        near = behavior_value + torch.clamp(value - behavior_value, -value_clip, value_clip)
        squared = torch.max(squared, (near - value_target) ** 2)
    total = policy + value_coeff * squared.mean() - entropy_coeff * entropy.mean()
    kl = (ratio - 1 - (log_prob - behavior_log_prob)).mean()
    clip_fraction = ((ratio - 1).abs() > clip).double().mean()
    return total, policy, squared.mean(), entropy.mean(), kl, clip_fraction


def columns(seed, size, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(size, generator=generator, dtype=dtype) for name in NAMES}
    tensors["behavior_log_prob"] = tensors["log_prob"] + 0.3 * tensors["behavior_log_prob"]
    for name in LEARNED:
        tensors[name].requires_grad_()
    return tensors


def ours(tensors, coefficients):
    learned = [tensors[name] for name in LEARNED]
    return clipped_loss(*learned, **{name: tensors[name] for name in NAMES[3:]}, coefficients=coefficients)


coefficient_sets = st.builds(
    LossCoefficients,
    clip=st.floats(0.01, 0.9),
    value_clip=st.none() | st.floats(0.01, 3.0),
    value=st.floats(0, 2),
    entropy=st.floats(0, 0.5),
)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 50), coefficients=coefficient_sets, scale=st.floats(-3, 3))
def test_values_and_gradients_equal_those_of_plain_autograd(seed, size, coefficients, scale):
    tensors = columns(seed, size)
    result = ours(tensors, coefficients)
    expected = plain_loss(*tensors.values(), coefficients)
    for given_, wanted in zip(result, expected, strict=True):
        torch.testing.assert_close(given_, wanted)
    learned = [tensors[name] for name in LEARNED]
    gradients = torch.autograd.grad(scale * result.total, learned)
    wanted_gradients = torch.autograd.grad(scale * expected[0], learned, allow_unused=True)
    for name, gradient, wanted in zip(LEARNED, gradients, wanted_gradients, strict=True):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient) if wanted is None else wanted, msg=name)


def slow_loss(log_prob, entropy, value, behavior_log_prob, behavior_value, advantage, value_target, coefficients):
    """The formulas of the docstring, sample by sample."""
    clip, value_clip, value_coeff, entropy_coeff = coefficients
    policy = squared = kl = clipped = 0.0
    rows = zip(log_prob, value, behavior_log_prob, behavior_value, advantage, value_target, strict=True)
    for now, estimate, before, old_estimate, gain, wanted in rows:
        ratio = math.exp(now - before)
        bounded = min(max(ratio, 1 - clip), 1 + clip)
        policy -= min(ratio * gain, bounded * gain)
        kl += ratio - 1 - (now - before)
        clipped += ratio != bounded
        error = (estimate - wanted) ** 2
        if value_clip is not None:
            near = old_estimate + min(max(estimate - old_estimate, -value_clip), value_clip)
            error = max(error, (near - wanted) ** 2)
        squared += error
    size = len(log_prob)
    mean_entropy = sum(entropy) / size
    total = policy / size + value_coeff * squared / size - entropy_coeff * mean_entropy
    return total, policy / size, squared / size, mean_entropy, kl / size, clipped / size


@given(seed=st.integers(0, 2**31), size=st.integers(1, 50), coefficients=coefficient_sets)
def test_values_equal_the_loop_in_single_precision(seed, size, coefficients):
    tensors = columns(seed, size)
    single = {name: tensor.detach().float() for name, tensor in tensors.items()}
    expected = slow_loss(*(tensor.tolist() for tensor in single.values()), coefficients)
    for name, given_, wanted in zip(ClippedLoss._fields, ours(single, coefficients), expected, strict=True):
        assert given_.item() == pytest.approx(wanted, rel=1e-5, abs=1e-5), name


def test_loss_of_two_samples_is_what_one_computes_by_hand():
    zeros = torch.zeros(2, dtype=torch.float64)
    log_ratio = torch.tensor([2.0, 0.5], dtype=torch.float64).log()
    tensors = {
        "log_prob": log_ratio.clone().requires_grad_(),
        "entropy": torch.tensor([1.0, 3.0], dtype=torch.float64, requires_grad=True),
        "value": torch.tensor([1.0, -1.0], dtype=torch.float64, requires_grad=True),
        "behavior_log_prob": zeros,
        "behavior_value": zeros,
        "advantage": torch.tensor([1.0, 1.0], dtype=torch.float64),
        "value_target": torch.tensor([3.0, 0.0], dtype=torch.float64),
    }
    result = ours(tensors, LossCoefficients(clip=0.2, value_clip=None, value=0.5, entropy=0.1))
    assert result.policy.item() == pytest.approx(-(1.2 + 0.5) / 2)
    assert result.value.item() == pytest.approx((4 + 1) / 2)
    assert result.entropy.item() == 2.0
    assert result.total.item() == pytest.approx(-0.85 + 0.5 * 2.5 - 0.1 * 2)
    assert result.clip_fraction.item() == 1.0
    result.total.backward()
    assert tensors["log_prob"].grad.tolist() == pytest.approx([0.0, -0.5 / 2]), "the first sample is clipped"
    assert tensors["value"].grad.tolist() == pytest.approx([0.5 * 2 * -2 / 2, 0.5 * 2 * -1 / 2])
    assert tensors["entropy"].grad.tolist() == pytest.approx([-0.05, -0.05])


@pytest.mark.parametrize("value_clip", [None, 0.5])
def test_gradient_is_that_of_finite_differences_where_the_loss_is_smooth(value_clip):
    tensors = columns(3, 12)
    ratio = (tensors["log_prob"] - tensors["behavior_log_prob"]).exp()
    coefficients = LossCoefficients(clip=0.2, value_clip=value_clip, value=0.7, entropy=0.05)
    assert torch.stack((ratio - 1.2, ratio - 0.8)).abs().min() > 1e-3, "no sample sits on a kink"

    def total(*learned):
        return ours({**tensors, **dict(zip(LEARNED, learned, strict=True))}, coefficients).total

    assert torch.autograd.gradcheck(total, [tensors[name] for name in LEARNED])


def test_on_the_first_pass_the_gradient_is_that_of_the_policy_gradient():
    tensors = columns(0, 8)
    tensors["behavior_log_prob"] = tensors["log_prob"].detach().clone()
    result = ours(tensors, LossCoefficients(clip=0.2, value_clip=None, value=0.0, entropy=0.0))
    result.total.backward()
    torch.testing.assert_close(tensors["log_prob"].grad, -tensors["advantage"] / 8)
    assert result.kl.item() == 0.0
    assert result.clip_fraction.item() == 0.0


def test_only_the_total_carries_a_gradient():
    result = ours(columns(0, 5), LossCoefficients(clip=0.2, value_clip=None, value=0.5, entropy=0.0))
    assert result.total.requires_grad
    assert not any(part.requires_grad for part in result[1:])


def test_a_term_added_to_the_total_keeps_its_own_gradient():
    tensors = columns(1, 6)
    coefficients = LossCoefficients(clip=0.2, value_clip=1.0, value=0.5, entropy=0.01)
    alone = torch.autograd.grad(ours(tensors, coefficients).total, tensors["log_prob"])[0]
    both = torch.autograd.grad(ours(tensors, coefficients).total + tensors["log_prob"].sum(), tensors["log_prob"])[0]
    torch.testing.assert_close(both, alone + 1)


def test_backward_twice_through_a_kept_graph_gives_the_same():
    tensors = columns(2, 6)
    result = ours(tensors, LossCoefficients(clip=0.2, value_clip=None, value=0.5, entropy=0.01))
    first = torch.autograd.grad(result.total, tensors["value"], retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(result.total, tensors["value"])[0])


def test_arguments_are_left_alone():
    tensors = columns(4, 6)
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    ours(tensors, LossCoefficients(clip=0.2, value_clip=0.1, value=0.5, entropy=0.01)).total.backward()
    assert all(torch.equal(before[name], tensor) for name, tensor in tensors.items())


def test_numbers_that_are_not_finite_show_in_the_total():
    tensors = columns(5, 6)
    tensors["advantage"][2] = torch.nan
    assert not ours(tensors, LossCoefficients(clip=0.2, value_clip=None, value=0.5, entropy=0.0)).total.isfinite()


@pytest.mark.parametrize("name", NAMES[1:])
def test_shapes_that_would_broadcast_are_refused(name):
    tensors = columns(0, 4)
    tensors[name] = tensors[name].detach().unsqueeze(-1)
    with pytest.raises(ValueError, match=rf"{name} has shape \(4, 1\), expected \[N\] = \(4,\)"):
        ours(tensors, LossCoefficients(clip=0.2, value_clip=None, value=0.5, entropy=0.0))


def test_value_clipping_keeps_the_gradient_of_values_that_moved_less_than_its_bound():
    generator = torch.Generator().manual_seed(0)
    value, before, target = torch.randn(3, 1000, generator=generator)  # single precision: (value - before) + before
    value = (before + 0.1 * value).requires_grad_()  # is often not quite value
    zeros = torch.zeros(1000)
    loss = clipped_loss(
        zeros.clone().requires_grad_(),
        zeros,
        value,
        behavior_log_prob=zeros,
        behavior_value=before,
        advantage=zeros,
        value_target=target,
        coefficients=LossCoefficients(clip=0.2, value_clip=10.0, value=1.0, entropy=0.0),
    )
    loss.total.backward()
    torch.testing.assert_close(value.grad, 2 * (value.detach() - target) / 1000)


def leaves_and_gradients(seed=0):
    generator = torch.Generator().manual_seed(seed)
    leaves = [torch.randn(shape, generator=generator).requires_grad_() for shape in ((3,), (2, 4))]
    return leaves, [torch.randn(leaf.shape, generator=generator) for leaf in leaves]


def loss_of(leaves, grads, value=0.0):
    def write(into):
        for place, grad in zip(into, grads, strict=True):
            place.copy_(grad)

    return KnownGradients.apply(torch.tensor(value), write, *leaves)


@pytest.mark.parametrize("term", [False, True], ids=["alone", "with a term"])
@pytest.mark.parametrize("kept", [False, True], ids=["no gradient yet", "with a gradient"])
def test_known_gradients_are_added_to_those_of_the_tensors(term, kept):
    leaves, grads = leaves_and_gradients()
    before = [torch.ones_like(leaf) if kept else torch.zeros_like(leaf) for leaf in leaves]
    for leaf, own in zip(leaves, before, strict=True):
        leaf.grad = own.clone() if kept else None
    loss = loss_of(leaves, grads, 3.0)
    assert loss.item() == 3.0
    (2.0 * loss + leaves[0].sum() if term else loss).backward()
    for leaf, own, grad in zip(leaves, before, grads, strict=True):
        expected = own + (2.0 * grad + (leaf is leaves[0]) if term else grad)
        torch.testing.assert_close(leaf.grad, expected)


def test_known_gradients_are_written_where_they_are_all_there_is():
    leaves, grads = leaves_and_gradients()
    for leaf in leaves:
        leaf.grad = torch.ones_like(leaf)
    assert write_gradients(loss_of(leaves, grads), leaves[::-1])
    assert all(torch.equal(leaf.grad, grad) for leaf, grad in zip(leaves, grads, strict=True))
    other = torch.zeros(2, requires_grad=True)
    other.grad = torch.ones(2)
    for loss, parameters in (
        (2.0 * loss_of(leaves, grads), leaves),
        (loss_of(leaves, grads), [*leaves, other]),
        (loss_of([*leaves, other], [*grads, other]), leaves),
        (leaves[0].sum(), leaves),
    ):
        assert not write_gradients(loss, parameters)
    leaves[1].grad = None
    assert not write_gradients(loss_of(leaves, grads), leaves)
    assert torch.equal(leaves[0].grad, grads[0]), "nothing was written"


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_known_gradients_leave_frozen_tensors_alone_and_call_hooks(register):
    (frozen, hooked), grads = leaves_and_gradients()
    seen = []
    for leaf in (frozen, hooked):
        leaf.grad = torch.zeros_like(leaf)
    getattr(hooked, register)(lambda tensor: seen.append(tensor))
    loss = loss_of((frozen, hooked), grads)
    assert not write_gradients(loss, (frozen, hooked))
    frozen.requires_grad_(False)
    loss = loss_of((frozen, hooked), grads)
    loss.backward()
    assert len(seen) == 1
    assert not frozen.grad.any()
    assert torch.equal(hooked.grad, grads[1])


def test_known_gradients_cannot_be_differentiated():
    leaves, grads = leaves_and_gradients()
    (gradient, _) = torch.autograd.grad(loss_of(leaves, grads), leaves, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        gradient.sum().backward()
