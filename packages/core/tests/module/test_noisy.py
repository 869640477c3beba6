import math

import pytest
import torch

from rl_core.module.noisy import NoisyLinear

EXACT = {"rtol": 1e-9, "atol": 1e-12}


def make_layer(seed=0, **settings):
    torch.manual_seed(seed)
    return NoisyLinear(5, 3, **settings).double()


def test_output_is_that_of_a_dense_layer_with_the_noisy_weights_and_so_are_the_gradients():
    layer = make_layer()
    layer.redraw(torch.Generator().manual_seed(1))
    x = torch.randn(7, 5, dtype=torch.float64)
    noise = torch.outer(layer.noise_out, layer.noise_in)
    weight = layer.weight + layer.sigma_weight * noise
    bias = layer.bias + layer.sigma_bias * layer.noise_out
    expected = x @ weight.mT + bias
    torch.testing.assert_close(layer(x), expected, **EXACT)
    parameters = list(layer.parameters())
    first, second = (torch.autograd.grad(y.square().sum(), parameters) for y in (layer(x), expected))
    torch.testing.assert_close(first, second, **EXACT)
    assert all(bool(gradient.any()) for gradient in first)


def test_noise_can_be_left_out_and_is_not_there_before_the_first_draw():
    layer = make_layer()
    x = torch.randn(2, 4, 5, dtype=torch.float64)
    plain = x @ layer.weight.mT + layer.bias
    torch.testing.assert_close(layer(x), plain, **EXACT)
    layer.redraw(torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(x, noisy=False), plain, **EXACT)
    assert layer(x).shape == (2, 4, 3)
    assert not torch.allclose(layer(x), plain)


def test_noise_is_the_signed_root_of_standard_normal_numbers():
    layer = make_layer()
    generator = torch.Generator().manual_seed(4)
    layer.redraw(generator)
    twin = torch.Generator().manual_seed(4)
    for noise, size in ((layer.noise_in, 5), (layer.noise_out, 3)):
        expected = [math.copysign(math.sqrt(abs(one)), one) for one in torch.randn(size, generator=twin).tolist()]
        assert noise.tolist() == pytest.approx(expected, rel=1e-6)
    before = layer.noise_in.clone()
    layer.redraw(generator)
    assert not torch.equal(before, layer.noise_in)


def test_noise_has_mean_zero_and_stays_until_drawn_anew():
    layer, generator = make_layer(), torch.Generator().manual_seed(0)
    x = torch.ones(1, 5, dtype=torch.float64)
    draws = []
    for _ in range(2000):
        layer.redraw(generator)
        assert torch.equal(layer(x), layer(x))
        draws.append((layer(x) - layer(x, noisy=False)).detach())
    deviation = torch.cat(draws).std(0)
    assert (torch.cat(draws).mean(0).abs() < 4 * deviation / 2000**0.5).all()


def test_weights_start_as_the_paper_says():
    layer = make_layer(sigma=0.4)
    assert layer.weight.abs().max() <= 1 / math.sqrt(5)
    for sigma in (layer.sigma_weight, layer.sigma_bias):
        assert torch.allclose(sigma, torch.full_like(sigma, 0.4 / math.sqrt(5)))
    assert set(layer.state_dict()) == {"weight", "bias", "sigma_weight", "sigma_bias", "noise_in", "noise_out"}
