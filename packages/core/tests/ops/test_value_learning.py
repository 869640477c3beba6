import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_core.ops.value_learning import (
    double_q_value,
    dueling,
    require_shape,
    select,
    td_loss,
    td_target,
    weighted_mean,
)


def random(*shape, seed=0, scale=1.0, dtype=torch.float64):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


def plain_td_loss(prediction, target, weight, kind):
    """The terms as everybody writes them, left to autograd."""
    error = prediction - target
    size = error.abs()
    huber = torch.where(size <= 1, 0.5 * error**2, size - 0.5)
    return (weight * (huber if kind == "huber" else error**2)).mean()


def slow_td_loss(prediction, target, weight, kind):
    total = 0.0
    for estimate, wanted, share in zip(prediction.tolist(), target.tolist(), weight.tolist(), strict=True):
        size = abs(wanted - estimate)
        if kind == "mse":
            total += share * size * size
        else:
            total += share * (size * size / 2 if size <= 1 else size - 0.5)
    return total / len(prediction)


def test_td_target_by_hand_has_no_future_where_the_discount_is_zero():
    result = td_target(numbers(1, 2), numbers(0.5, 0), numbers(10, 20))
    assert torch.equal(result, numbers(6, 2))


@given(size=st.integers(1, 30), seed=st.integers(0, 2**31))
def test_td_target_equals_the_loop_in_single_precision(size, seed):
    reward, discount, next_value = random(3, size, seed=seed, dtype=torch.float32)
    result = td_target(reward, discount, next_value)
    slow = [r + d * v for r, d, v in zip(reward.tolist(), discount.tolist(), next_value.tolist(), strict=True)]
    assert result.tolist() == pytest.approx(slow, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("name", ["discount", "next_value"])
def test_td_target_refuses_shapes_that_would_broadcast(name):
    arguments = {key: random(4) for key in ("reward", "discount", "next_value")}
    arguments[name] = arguments[name].unsqueeze(1)
    with pytest.raises(ValueError, match=rf"TD target: {name} has shape \(4, 1\), expected \[N\] = \(4,\)"):
        td_target(**arguments)


@pytest.mark.parametrize("trailing", [(), (3,)])
def test_select_takes_the_entry_of_each_samples_action(trailing):
    q, action = random(5, 4, *trailing), torch.tensor([0, 3, 1, 1, 2])
    expected = torch.stack([q[sample, int(action[sample])] for sample in range(5)])
    assert torch.equal(select(q, action), expected)


@pytest.mark.parametrize("trailing", [(), (3,)])
def test_the_gradient_of_select_reaches_the_action_taken_and_no_other(trailing):
    q = random(2, 3, *trailing).requires_grad_()
    select(q, torch.tensor([2, 0])).sum().backward()
    expected = torch.zeros_like(q)
    expected[0, 2] = expected[1, 0] = 1
    assert torch.equal(q.grad, expected)


@pytest.mark.parametrize("shape", [(5, 1), (4,), ()])
def test_select_refuses_actions_that_are_not_one_per_sample(shape):
    with pytest.raises(ValueError, match=r"select: action has shape .*, expected \[N\] = \(5,\)"):
        select(random(5, 3), torch.zeros(shape, dtype=torch.int64))


def test_double_q_value_by_hand_is_the_targets_value_of_the_online_choice():
    result = double_q_value(numbers(1, 2, 3).expand(2, 3), torch.tensor([[9.0, 0, 1], [0, 5, 1]]))
    assert torch.equal(result, numbers(1, 2))


@given(size=st.integers(1, 20), actions=st.integers(1, 6), seed=st.integers(0, 2**31))
def test_double_q_value_equals_the_loop_and_never_exceeds_the_maximum(size, actions, seed):
    target, online = random(2, size, actions, seed=seed)
    result = double_q_value(target, online)
    rows = zip(target.tolist(), online.tolist(), strict=True)
    slow = [row[max(range(actions), key=chosen.__getitem__)] for row, chosen in rows]
    assert result.tolist() == slow
    assert (result <= target.amax(1)).all()
    assert torch.equal(double_q_value(target, target), target.amax(1))


def test_double_q_value_refuses_other_numbers_of_actions():
    with pytest.raises(ValueError, match=r"double Q: next_q_online has shape \(4, 1\), expected \[N, A\] = \(4, 3\)"):
        double_q_value(random(4, 3), random(4, 1))


def test_td_loss_by_hand():
    prediction, target, weight = numbers(0, 0, 5), numbers(0.5, -3, 5), numbers(1, 0.5, 1)
    loss, error = td_loss(prediction, target, weight)
    assert loss.item() == pytest.approx((0.125 + 0.5 * 2.5 + 0) / 3)
    assert torch.equal(error, numbers(0.5, -3, 0))
    assert td_loss(prediction, target, weight, kind="mse")[0].item() == pytest.approx((0.25 + 0.5 * 9) / 3)


@given(
    size=st.integers(1, 40), seed=st.integers(0, 2**31), kind=st.sampled_from(["huber", "mse"]), weighted=st.booleans()
)
def test_td_loss_and_its_gradient_equal_the_plain_formula(size, seed, kind, weighted):
    prediction, target, weight = random(3, size, seed=seed, scale=2.0)
    prediction.requires_grad_()
    weight = weight.abs() if weighted else torch.ones_like(weight)
    loss, error = td_loss(prediction, target, weight if weighted else None, kind=kind)
    expected = plain_td_loss(prediction, target, weight, kind)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, prediction), torch.autograd.grad(expected, prediction))
    assert torch.equal(error, target - prediction.detach())
    single = td_loss(prediction.float(), target.float(), weight.float(), kind=kind)[0]
    assert single.item() == pytest.approx(slow_td_loss(prediction, target, weight, kind), rel=1e-5, abs=1e-5)


def test_the_td_loss_sends_no_gradient_to_target_weight_or_error():
    prediction, target, weight = random(4).requires_grad_(), random(4, seed=1).requires_grad_(), random(4, seed=2)
    weight.requires_grad_()
    loss, error = td_loss(prediction, target, weight)
    assert torch.autograd.grad(loss, (target, weight), allow_unused=True) == (None, None)
    assert not error.requires_grad


@pytest.mark.parametrize("name", ["target", "weight"])
def test_td_loss_refuses_shapes_that_would_broadcast(name):
    arguments = {key: random(4) for key in ("prediction", "target", "weight")}
    arguments[name] = arguments[name].unsqueeze(1)
    with pytest.raises(ValueError, match=rf"TD loss: {name} has shape \(4, 1\), expected \[N\] = \(4,\)"):
        td_loss(**arguments)


def test_td_loss_refuses_an_unknown_kind():
    with pytest.raises(ValueError, match="kind is 'l1', expected 'huber' or 'mse'"):
        td_loss(random(4), random(4), random(4), kind="l1")


def test_dueling_by_hand():
    result = dueling(torch.tensor([[1.0, 2, 6], [0, 0, 0]]), torch.tensor([[10.0], [5]]))
    assert torch.equal(result, torch.tensor([[8.0, 9, 13], [5, 5, 5]]))


@given(lead=st.lists(st.integers(1, 3), max_size=2), actions=st.integers(1, 5), atoms=st.none() | st.integers(1, 4))
def test_dueling_has_the_value_as_mean_over_the_actions(lead, actions, atoms):
    trailing = () if atoms is None else (atoms,)
    advantage, value = random(*lead, actions, *trailing), random(*lead, 1, *trailing, seed=1)
    result = dueling(advantage, value)
    axis = len(lead)
    torch.testing.assert_close(result.mean(axis, keepdim=True), value)
    torch.testing.assert_close(
        result - result.select(axis, 0).unsqueeze(axis), advantage - advantage.narrow(axis, 0, 1)
    )


def test_dueling_equals_the_loop_and_its_gradient_that_of_finite_differences():
    advantage, value = random(2, 3, 4).requires_grad_(), random(2, 1, 4, seed=1).requires_grad_()
    slow = torch.zeros(2, 3, 4, dtype=torch.float64)
    for sample in range(2):
        for atom in range(4):
            mean = sum(advantage[sample, action, atom].item() for action in range(3)) / 3
            for action in range(3):
                slow[sample, action, atom] = value[sample, 0, atom] + advantage[sample, action, atom] - mean
    torch.testing.assert_close(dueling(advantage, value), slow.detach())
    assert torch.autograd.gradcheck(dueling, (advantage, value))


@pytest.mark.parametrize("shape", [(4,), (4, 3), (1, 1), (1, 3, 1)])
def test_dueling_refuses_a_value_without_an_axis_for_the_actions(shape):
    with pytest.raises(ValueError, match=r"dueling: value has shape .* and advantage \(4, 3\), expected \[..., 1\]"):
        dueling(random(4, 3), random(*shape))


@given(lead=st.lists(st.integers(1, 3), max_size=2), size=st.integers(1, 9), seed=st.integers(0, 2**31))
def test_weighted_mean_is_the_mean_of_the_product(lead, size, seed):
    sample, weight = random(*lead, size, seed=seed), random(size, seed=seed + 1)
    torch.testing.assert_close(weighted_mean("loss", sample, weight), (weight * sample).mean(-1))
    torch.testing.assert_close(weighted_mean("loss", sample, None), sample.mean(-1))


def test_require_shape_accepts_what_fits_and_names_what_does_not():
    require_shape("here", "[N]", (3,), a=random(3), b=random(3))
    with pytest.raises(ValueError, match=r"here: b has shape \(1,\), expected \[N\] = \(3,\)"):
        require_shape("here", "[N]", (3,), a=random(3), b=random(1))
