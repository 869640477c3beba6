"""Nothing a pickle contains is ever run; what an attack needs is refused; what is unknown stays inert."""

from __future__ import annotations

import collections
import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_core.errors import CheckpointError
from rl_core.migrate.inert import Name, Record, parse_pickle, read_pickle
from rl_core.migrate.values import to_array

FIXTURES = Path(__file__).parent / "fixtures"


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


class WithState:
    def __setstate__(self, state):
        raise RuntimeError("a pickle called __setstate__")

    def __reduce__(self):
        return WithState, (), {"a": 1}


@pytest.fixture
def mark(tmp_path):
    """A file that an attack would make; after the test it must not exist."""
    path = tmp_path / "mark"
    yield path
    assert not path.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_a_call_of_os_system_is_refused_and_not_run(mark, protocol):
    content = pickle.dumps({"weights": Calls(os.system, f"touch {mark}")}, protocol)
    with pytest.raises(CheckpointError, match="system, which no checkpoint needs"):
        parse_pickle(content)


@pytest.mark.parametrize("function", [eval, exec, open, __import__, compile], ids=lambda function: function.__name__)
def test_builtins_that_run_code_are_refused(mark, function):
    with pytest.raises(CheckpointError, match="may be an attack"):
        parse_pickle(pickle.dumps(Calls(function, f"open({str(mark)!r}, 'w')")))


def test_the_oldest_ways_of_making_objects_are_refused(mark):
    command = f"touch {mark}".encode()
    for content in (
        b"(S'" + command + b"'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'" + command + b"'\no.",  # OBJ
        b"cbuiltins\neval\n(S'1'\ntR.",  # GLOBAL, REDUCE
        b"cposix\nsystem\n.",
        b"csubprocess\nPopen\n)\x81.",  # NEWOBJ
    ):
        with pytest.raises(CheckpointError, match="may be an attack"):
            parse_pickle(content)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02\x83\x01\x00.",  # EXT2
        b"\x80\x02\x84\x01\x00\x00\x00.",  # EXT4
        b"Pwhatever\n.",  # PERSID
        b"\x80\x02U\x01aQ.",  # BINPERSID
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"\x80\x05\x97\x98.",  # READONLY_BUFFER
    ],
)
def test_codes_that_point_outside_the_file_are_refused(content):
    with pytest.raises(CheckpointError, match="which no checkpoint needs"):
        parse_pickle(content)


def test_the_state_of_an_object_is_noted_and_not_set():
    record = parse_pickle(pickle.dumps(WithState()))
    assert isinstance(record, Record)
    assert record.path.endswith("WithState")
    assert record.state == {"a": 1}


def test_unknown_functions_and_classes_stay_inert(mark):
    # A gadget outside the list of hostile modules: safety does not rest on that list.
    attack = parse_pickle(b"cnumpy.testing._private.utils\nrunstring\n(S'open(1)'\n}tR.")
    assert isinstance(attack, Record)
    assert attack.args == ("open(1)", {})
    with pytest.raises(CheckpointError, match="expected an array of numbers"):
        to_array(attack, "weight")
    assert parse_pickle(b"cno_such_package.of_mine\nEnv\n.") == Name("no_such_package.of_mine.Env")


def test_a_name_that_hides_dots_stays_a_name():
    content = b"\x80\x04\x8c\x05numpy\x8c\x0af2py.os.ab\x93."
    assert parse_pickle(content) == Name("numpy.f2py.os.ab")


def test_arrays_of_objects_are_refused_and_their_payload_not_run(mark):
    array = np.empty(1, object)
    array[0] = Calls(print, f"{mark}")
    with pytest.raises(CheckpointError, match="expected an array of numbers"):
        to_array(parse_pickle(pickle.dumps(array, 5)), "weight")


def test_arrays_whose_size_or_type_lies_are_refused():
    honest = np.arange(4.0, dtype=np.float32).reshape(2, 2)
    content = pickle.dumps(honest, 5)
    np.testing.assert_array_equal(to_array(parse_pickle(content), "weight"), honest)
    record = parse_pickle(content)
    data, dtype, _, order = record.args
    for args in (
        (data, dtype, (2, 3), order),
        (data, dtype, (-2, -2), order),
        (data, dtype, (2**40, 2**40), order),
        (data, dtype, (True, 4), order),
        (data, dtype, [4], order),
        (None, dtype, (4,), order),
        (data, Record("numpy.dtype", ("V99",)), (4,), order),
        (data, Record("numpy.dtype", ()), (4,), order),
        (data, Record("os.dtype", ("f4",)), (4,), order),
    ):
        with pytest.raises(CheckpointError, match="expected an array of numbers"):
            to_array(Record(record.path, args), "weight")


@pytest.mark.parametrize("protocol", range(3, 6))
def test_numpy_arrays_and_scalars_come_back(protocol):
    for value in (np.float32(1.5), np.int64(-3), np.arange(6, dtype=">i4").reshape(2, 3), np.asfortranarray(np.eye(3))):
        np.testing.assert_array_equal(to_array(parse_pickle(pickle.dumps(value, protocol)), "value"), value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda parts: st.lists(parts) | st.tuples(parts, parts) | st.dictionaries(st.text(), parts),
    max_leaves=20,
)


@given(PLAIN, st.integers(0, 5))
@settings(deadline=None, max_examples=80)
def test_plain_data_comes_back_as_from_pickle(value, protocol):
    if protocol > 2 or b"_codecs" not in pickle.dumps(value, protocol):  # bytes are a call before protocol 3
        assert parse_pickle(pickle.dumps(value, protocol)) == value


def test_containers_come_back_plain():
    ordered = collections.OrderedDict(a=1, b=[2])
    got = parse_pickle(pickle.dumps([ordered, collections.deque([1, 2]), {3, 4}, frozenset((5,)), bytearray(b"x")], 5))
    assert got == [{"a": 1, "b": [2]}, [1, 2], {3, 4}, frozenset((5,)), bytearray(b"x")]


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=4))
@settings(deadline=None, max_examples=150)
def test_damaged_files_raise_nothing_but_checkpoint_errors(place, noise):
    content = bytearray((FIXTURES / "ppo_dense_shared" / "class_and_ctor_args.pkl").read_bytes())
    place %= len(content)
    content[place : place + len(noise)] = noise
    try:
        parse_pickle(bytes(content))
    except CheckpointError:
        pass


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=150)
def test_noise_raises_nothing_but_checkpoint_errors(content):
    try:
        parse_pickle(content)
    except CheckpointError:
        pass


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x05\x8e" + (2**62).to_bytes(8, "little") + b"x.",  # BINBYTES8 of 4 exabytes
        b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b"x.",  # BYTEARRAY8
        b"\x80\x02\x8b\xff\xff\xff\x7f.",  # LONG4 of 2 GiB
        b"\x80\x02h\x07.",  # BINGET of what was never put
        b"I" + b"9" * 5000 + b"\n.",
        b".",
        b"\x80\x09N.",  # a protocol there is not yet
        b"}]K\x01s.",  # a list as a key
    ],
)
def test_lies_about_sizes_and_broken_programs_are_refused_at_once(content):
    start = time.process_time()
    with pytest.raises(CheckpointError):
        parse_pickle(content)
    assert time.process_time() - start < 1.0


def test_a_huge_memo_index_takes_no_memory():
    assert parse_pickle(b"K\x01r\xff\xff\xff\xffj\xff\xff\xff\xff\x86.") == (1, 1)


def test_deep_keys_and_containers_do_not_overflow_the_stack():
    assert isinstance(parse_pickle(b"]" * 100_000 + b"a" * 99_999 + b"."), list)
    with pytest.raises(CheckpointError, match="as a key"):
        parse_pickle(b"}" + b")" + b"\x85" * 100_000 + b"K\x01s.")


def test_files_beyond_the_limit_are_not_read(tmp_path):
    path = tmp_path / "large.pkl"
    path.write_bytes(pickle.dumps(b"x" * 1000))
    with pytest.raises(CheckpointError, match="1018 bytes, expected at most 1000"):
        read_pickle(path, max_bytes=1000)
    with pytest.raises(CheckpointError, match="no such file"):
        read_pickle(tmp_path / "none.pkl")


def test_endless_programs_are_refused():
    with pytest.raises(CheckpointError, match="more than 2000000 instructions"):
        parse_pickle(b"N0" * 1_100_000 + b"N.")
