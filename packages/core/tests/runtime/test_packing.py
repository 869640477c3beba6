"""What travels between processes arrives as it was, and may be written to."""

import dataclasses
import enum
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

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
    found = unpack(pack(record).joined())
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
    packed = pack((whole[:, 1:3].t(), torch.nn.Parameter(torch.ones(2)), whole.t())).joined()
    assert not packed.flags.writeable, "as Ray gives it"
    view, parameter, transposed = unpack(packed)
    assert torch.equal(view, whole[:, 1:3].t())
    assert type(parameter) is torch.Tensor
    assert torch.equal(transposed, whole.t())
    view.fill_(-1)
    assert torch.equal(unpack(packed)[0], whole[:, 1:3].t())


class Colour(enum.StrEnum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass(frozen=True, slots=True)
class Doubled:
    """Is more than its fields."""

    value: int

    def __reduce__(self):
        return Doubled, (2 * self.value,)


@dataclasses.dataclass
class Open:
    value: int


@pytest.mark.parametrize(
    "value",
    [
        (),
        [],
        {},
        (1, (2,)),
        [None, True, 1 << 80, -0.5, float("inf"), "ä\udc80", b"\0"],
        {"a": [{3: ()}], 4: {None: 1.0}},
        {("agent", 0): np.arange(3)},
        {Colour.RED: Colour.RED},
        {np.int64(3): np.float32(2.5)},
        [np.float64(0.1), np.float32(0.1), np.int8(-3), np.uint64(2**64 - 1), np.bool_(True), np.float16(0.1)],
        [np.longdouble(0.1), np.datetime64("2026-01-01"), np.str_("a"), np.complex64(1j)],
        OrderedDict(a=1),
        Point(1, 2),
        Record({}, None, Open(3)),
        Open(Point(1, 2)),
        {1, 2},
        frozenset({"a"}),
        3 + 4j,
        Path("a/b"),
        ValueError("what"),
    ],
    ids=repr,
)
def test_whatever_stands_in_a_record_arrives_as_it_was(value):
    found = unpack(pack([value]).joined())[0]
    assert repr(found) == repr(value)
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "array",
    [
        np.array(5.0),
        np.zeros((0, 3), np.float32),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(12)[::-2],
        np.arange(3, dtype=">i4"),
        np.array([1 + 2j]),
        np.array(["a", "bc"]),
        np.array(["2026-01-01"], "datetime64[D]"),
        np.array([None, "a"], object),
        np.zeros(2, [("x", "f4"), ("y", "i8")]),
        np.ma.masked_array([1, 2], [True, False]),
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_of_every_kind_arrive_and_may_be_written_to(array):
    found = unpack(pack({"a": array}).joined())["a"]
    assert (type(found), found.dtype, found.shape) == (type(array), array.dtype, array.shape)
    assert found.tolist() == array.tolist()
    assert found.flags.writeable


def test_a_type_that_numpy_has_not_arrives():
    tensor = torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn)
    found = unpack(pack(tensor).joined())
    assert found.dtype == tensor.dtype
    assert torch.equal(found.float(), tensor.float())


class Based:
    pass


class Slotted:
    __slots__ = ("extra",)


@dataclasses.dataclass(slots=True)
class WithDict(Based):
    value: int = 1


@dataclasses.dataclass(slots=True)
class WithSlot(Slotted):
    value: int = 1


@dataclasses.dataclass(slots=True)
class WithState:
    value: int = 1

    def __getstate__(self):
        return -self.value

    def __setstate__(self, state):
        self.value = 10 * state


@dataclasses.dataclass(slots=True)
class Unset:
    value: int = dataclasses.field(init=False)


@dataclasses.dataclass(slots=True)
class OfADict(dict):
    value: int = 1


Made = dataclasses.make_dataclass("Made", [("value", int)], slots=True)


def test_records_that_are_more_or_other_than_their_fields_arrive_whole():
    with_dict, with_slot = WithDict(), WithSlot()
    with_dict.extra = with_slot.extra = 5
    of_a_dict = OfADict()
    of_a_dict["a"] = 1
    sent = with_dict, with_slot, Doubled(3), WithState(2), of_a_dict, Unset(), Made(4)
    found = unpack(pack(sent).joined())
    assert [getattr(item, "value", None) for item in found] == [1, 1, 6, -20, 1, None, 4]
    assert found[0].extra == found[1].extra == 5
    assert found[4]["a"] == 1


def test_arrays_in_what_is_no_record_stand_where_they_can_be_viewed():
    big = np.arange(100_000.0)
    whole = torch.arange(100_000.0, requires_grad=True)
    sent = {("agent", 0): [big, whole[:100], torch.nn.Parameter(whole[5:])]}
    for packed in (pack(sent), pack(OrderedDict(a=sent))):
        assert packed.nbytes < big.nbytes + whole.nbytes + 10_000, "a view is not all that it is a view of"
        joined = packed.joined().copy()
        found = unpack(joined)
        array, view, rest = found.get("a", found)["agent", 0]
        assert np.shares_memory(array, joined)
        assert not view.requires_grad
        assert type(rest) is torch.Tensor
        assert torch.equal(view, whole[:100])
        assert array.tolist() == big.tolist()
    joined = pack_any(big).joined().copy()
    assert np.shares_memory(unpack(joined), joined)


def test_lists_of_numbers_arrive():
    numbers = [float(number) for number in range(10_000)]
    assert unpack(pack({"a": numbers, "b": [*numbers, np.float64(1)]}).joined()) == {"a": numbers, "b": [*numbers, 1.0]}


def test_what_contains_itself_says_so():
    itself = []
    itself.append(itself)
    with pytest.raises(RecursionError):
        pack(itself)


def test_sparse_tensors_arrive():
    sparse = torch.eye(3).to_sparse()
    assert torch.equal(
        unpack(pack({"a": sparse, "b": OrderedDict(c=sparse)}).joined())["b"]["c"].to_dense(), torch.eye(3)
    )


def test_a_record_that_only_a_script_has_arrives():
    @dataclasses.dataclass(frozen=True, slots=True)
    class Local:
        value: Any

    found = unpack(pack(Local(np.arange(3))).joined())
    assert found.value.tolist() == [0, 1, 2]


def test_what_is_no_record_arrives_as_it_was():
    module = torch.nn.Linear(2, 3)
    found, function = unpack(pack_any((module, lambda: module.weight.sum())).joined())
    assert isinstance(found.weight, torch.nn.Parameter)
    assert torch.equal(found.weight, module.weight)
    function().backward()


def test_what_only_a_script_has_is_sent_along():
    def double(value):
        return 2 * value

    function, tensor = unpack(pack((double, torch.ones(3))).joined())
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
        return pack(dataclasses.replace(record, array=record.array + 1)).joined()

    ray.cloudpickle.register_pickle_by_value(__import__("sys").modules[__name__])
    record = Record({"a": torch.arange(40_000.0)}, np.arange(3), None)
    found = unpack(ray.get(shifted.remote(pack(record).joined())))
    assert torch.equal(found.tensors["a"], record.tensors["a"])
    assert found.array.tolist() == [1, 2, 3]
