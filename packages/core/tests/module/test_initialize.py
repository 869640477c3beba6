import dataclasses
import typing

import pytest
import torch

from rl_core.module.initialize import LayerInit, initialize, initializer_for
from rl_core.module.settings import INITIALIZER_KWARGS, BiasInitializer, KernelInitializer, ModelSettings

KWARGS = {"constant": {"val": 0.25}, "sparse": {"sparsity": 0.5}}
SHAPES = {"dirac": (4, 3, 2, 2)}  # of convolutions only


@pytest.mark.parametrize("kernel", typing.get_args(KernelInitializer))
def test_kernels_are_those_of_torch(kernel):
    shape = SHAPES.get(kernel, (4, 3))
    weight, expected, bias = torch.empty(shape), torch.empty(shape), torch.ones(4)
    torch.manual_seed(0)
    initialize(weight, bias, LayerInit(kernel=kernel, kernel_kwargs=KWARGS.get(kernel, {})), 7.0)
    torch.manual_seed(0)
    getattr(torch.nn.init, f"{kernel}_")(expected, **KWARGS.get(kernel, {}))
    assert torch.equal(weight, expected)
    assert not bias.any()


@pytest.mark.parametrize("name", typing.get_args(BiasInitializer))
def test_biases_are_those_of_torch(name):
    weight, bias, expected = torch.empty(4, 3), torch.empty(4), torch.empty(4)
    initialize(weight, bias, LayerInit(default="torch", bias=name, bias_kwargs=KWARGS.get(name, {})), 1.0)
    assert weight.abs().max() <= 3**-0.5
    torch.manual_seed(0)
    initialize(weight, bias, LayerInit(kernel="zeros", bias=name, bias_kwargs=KWARGS.get(name, {})), 1.0)
    torch.manual_seed(0)
    getattr(torch.nn.init, f"{name}_")(expected, **KWARGS.get(name, {}))
    assert torch.equal(bias, expected)


def test_every_name_has_a_list_of_its_arguments_that_torch_takes():
    assert set(INITIALIZER_KWARGS) == set(typing.get_args(KernelInitializer))
    assert set(typing.get_args(BiasInitializer)) <= set(INITIALIZER_KWARGS)
    values = {"mode": "fan_out", "nonlinearity": "relu", "sparsity": 0.5, "groups": 1}
    for name, arguments in INITIALIZER_KWARGS.items():
        weight = torch.empty(SHAPES.get(name, (4, 3)))
        getattr(torch.nn.init, f"{name}_")(weight, **{key: values.get(key, 1.0) for key in arguments})


def test_the_functions_of_torch_that_fill_a_tensor_all_have_a_name():
    known = {name.removesuffix("_") for name in dir(torch.nn.init) if name.endswith("_") and name[0] != "_"}
    assert known == set(INITIALIZER_KWARGS)


PARTS = {"fcnet", "conv", "fusionnet", "lstm", "head_fcnet"}


@pytest.mark.parametrize("part", sorted(PARTS))
def test_each_part_has_its_own_settings(part):
    settings = ModelSettings(
        initializer="torch",
        **{f"{part}_kernel_initializer": "normal", f"{part}_kernel_initializer_kwargs": {"std": 2.0}},
    )
    assert initializer_for(settings, part) == LayerInit(default="torch", kernel="normal", kernel_kwargs={"std": 2.0})
    for other in PARTS - {part}:
        assert initializer_for(settings, other) == LayerInit(default="torch")


def test_layer_init_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        LayerInit().default = "torch"
