"""What travels between processes arrives as it was, and may be written to."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import ray
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_core.runtime.packing import ALIGNMENT, pack, pack_any, unpack

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    tensors: Mapping[str, torch.Tensor]
    array: np.ndarray
    other: Any


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 4), max_size=3)), max_size=4),
    st.integers(0, 70),
    st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)),
)
def test_records_arrive_as_they_were(kinds, size, other):
    tensors = {str(n): (10 * torch.rand(shape)).to(dtype) for n, (dtype, shape) in enumerate(kinds)}
    record = Record(tensors, np.arange(size, dtype=np.int16), other)
    found = unpack(pack(record))
    assert found.other == other
    np.testing.assert_array_equal(found.array, record.array)
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        arrived = found.tensors[name]
        assert (arrived.dtype, arrived.shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(arrived, tensor)
        assert arrived.data_ptr() % ALIGNMENT == 0 or not arrived.numel()
        arrived.zero_()


def test_views_and_parameters_arrive_as_plain_tensors_of_their_own():
    whole = torch.arange(12.0).view(3, 4)
    packed = pack((whole[:, 1:3].t(), torch.nn.Parameter(torch.ones(2)), whole.t()))
    packed.flags.writeable = False  # as Ray gives it
    view, parameter, transposed = unpack(packed)
    assert torch.equal(view, whole[:, 1:3].t())
    assert type(parameter) is torch.Tensor
    assert torch.equal(transposed, whole.t())
    view.fill_(-1)
    assert torch.equal(unpack(packed)[0], whole[:, 1:3].t())


def test_what_is_no_record_arrives_as_it_was():
    module = torch.nn.Linear(2, 3)
    found, function = unpack(pack_any((module, lambda: module.weight.sum())))
    assert isinstance(found.weight, torch.nn.Parameter)
    assert torch.equal(found.weight, module.weight)
    function().backward()


def test_what_only_a_script_has_is_sent_along():
    def double(value):
        return 2 * value

    function, tensor = unpack(pack((double, torch.ones(3))))
    assert function(4) == 8
    assert torch.equal(tensor, torch.ones(3))


def test_what_cannot_be_sent_says_so():
    import threading

    with pytest.raises(TypeError, match="lock"):
        pack(threading.Lock())


@pytest.mark.usefixtures("cluster")
def test_it_crosses_ray_in_one_piece():
    @ray.remote
    def shifted(packed):
        record = unpack(packed)
        return pack(dataclasses.replace(record, array=record.array + 1))

    ray.cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])
    record = Record({"a": torch.arange(40_000.0)}, np.arange(3), None)
    found = unpack(ray.get(shifted.remote(pack(record))))
    assert torch.equal(found.tensors["a"], record.tensors["a"])
    assert found.array.tolist() == [1, 2, 3]
