"""Bytes become observations of the space, or an error that names every slot whose bytes do not."""

import contextlib
import json

import gymnasium
import msgspec
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_connectors.decode import DecodeBytes, DecodeMsgpack, DecodeProtobuf, pack_bytes
from rl_core import ModelSettings, Policy
from rl_core.config.codec import decode, encode
from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.connect.required import ActionToEnv
from rl_core.env.spaces import same_space
from rl_core.errors import BadObservationError, ConfigError
from rl_core.module.spec import ModuleSpec
from rl_core.testing import check_connector

SIZE = 200
BYTES = spaces.Box(0, 255, (SIZE,), np.uint8)
ACTION = spaces.Discrete(2)
SPACE = spaces.Dict(
    [  # an order that is not alphabetical
        ("position", spaces.Box(-1, 1, (2,), np.float32)),
        ("gear", spaces.Discrete(5, start=-1)),
        (
            "parts",
            spaces.Tuple([spaces.MultiDiscrete([2, 300]), spaces.MultiBinary(3), spaces.Box(0, 255, (1, 2), np.uint8)]),
        ),
    ]
)
GOOD = {"position": [0.7, -1], "gear": 3, "parts": [[1, 299], [0, 1, True], [[7, 255]]]}


def from_json(message):
    return json.loads(message)


def as_arrays(message):
    value = json.loads(message)
    return value | {"position": np.array(value["position"]), "gear": np.int32(value["gear"])}


def the_space():
    return SPACE


def decoded(piece, messages, size=SIZE):
    """The observations that messages become; arrays are taken as they are."""
    rows = [message if isinstance(message, np.ndarray) else pack_bytes(message, size) for message in messages]
    chain = ObsChain([piece], spaces.Box(0, 255, (size,), np.uint8), ACTION)
    step = observations_only(np.stack(rows), np.ones(len(rows), bool))
    return chain(chain.initial_state(len(rows)), step)[1].obs


def as_json(**changes):
    return json.dumps(GOOD | changes).encode()


def as_msgpack(**changes):
    return msgspec.msgpack.encode(GOOD | changes)


# Packing --------------------------------------------------------------------------------------------------------------


def test_a_message_is_packed_as_its_length_itself_and_zeros():
    assert pack_bytes(b"abc", 10).tolist() == [3, 0, 0, 0, 97, 98, 99, 0, 0, 0]
    assert pack_bytes(bytes(300), 400)[:4].tolist() == [44, 1, 0, 0]
    assert pack_bytes(b"", 10) in spaces.Box(0, 255, (10,), np.uint8)
    with pytest.raises(ValueError, match="got a message of 7 bytes, expected at most 6: 10 less 4"):
        pack_bytes(b"1234567", 10)


@given(st.binary(max_size=SIZE - 4))
def test_every_message_arrives_as_it_was(message):
    seen = []
    decoded(DecodeBytes(lambda given_: seen.append(given_) or 0, space=spaces.Discrete(1)), [message])
    assert seen == [message]


# All kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("piece", "pack"),
    [
        (DecodeBytes(from_json, space=SPACE), as_json),
        (DecodeBytes(as_arrays, space=the_space), as_json),
        (DecodeMsgpack(space=SPACE), as_msgpack),
    ],
    ids=["json", "arrays", "msgpack"],
)
def test_messages_become_a_batch_of_the_space(piece, pack):
    obs = decoded(piece, [pack(), pack(gear=-1), pack()])
    assert list(obs) == ["position", "gear", "parts"]
    assert obs["position"].tolist() == [[np.float32(0.7), -1]] * 3
    assert obs["gear"].tolist() == [3, -1, 3]
    assert [part.tolist() for part in obs["parts"]] == [[[1, 299]] * 3, [[0, 1, 1]] * 3, [[[7, 255]]] * 3]
    for slot in range(3):
        one = {key: obs[key][slot] for key in ("position", "gear")}
        assert one | {"parts": tuple(part[slot] for part in obs["parts"])} in SPACE


@given(st.integers(0, 2**31))
@settings(max_examples=30)
def test_every_observation_of_a_space_comes_back(seed):
    SPACE.seed(seed)
    samples = [SPACE.sample() for _ in range(4)]

    def plain(value):
        if isinstance(value, dict):
            return {key: plain(part) for key, part in value.items()}
        return [plain(part) for part in value] if isinstance(value, tuple) else value.tolist()

    obs = decoded(DecodeMsgpack(space=SPACE), [msgspec.msgpack.encode(plain(sample)) for sample in samples])
    for slot, sample in enumerate(samples):
        assert np.array_equal(obs["position"][slot], sample["position"])
        assert obs["position"].dtype == np.float32
        assert obs["gear"][slot] == sample["gear"]
        for part, expected in zip(obs["parts"], sample["parts"], strict=True):
            assert np.array_equal(part[slot], expected)
            assert part.dtype == expected.dtype


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.uint64, np.bool_])
def test_bytes_in_a_leaf_are_its_numbers(dtype):
    numbers = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
    piece = DecodeMsgpack(space=spaces.Box(0, 1, (2, 3), dtype))
    message = msgspec.msgpack.encode(numbers.astype(np.dtype(dtype).newbyteorder("<")).tobytes())
    obs = decoded(piece, [message, msgspec.msgpack.encode(numbers.tolist())])
    assert obs.dtype == dtype
    assert np.array_equal(obs, [numbers, numbers])
    with pytest.raises(BadObservationError, match="bytes, expected"):
        decoded(piece, [msgspec.msgpack.encode(b"123")])


@pytest.mark.parametrize("piece", [DecodeMsgpack(space=SPACE), DecodeBytes(from_json, space=the_space)])
def test_settings_are_stored_and_come_back(piece):
    stored = json.loads(json.dumps(encode(piece)))
    back = decode(stored, allow=["rl_connectors", __name__.partition(".")[0]])
    assert back == piece
    assert same_space(SPACE, ObsChain([back], BYTES, ACTION).output_space) is None


def as_numbers(message):
    return np.frombuffer(message, np.uint8)


def test_it_conforms():
    low, high = np.zeros(12, np.uint8), np.full(12, 255, np.uint8)
    low[:4] = high[:4] = 8, 0, 0, 0  # whatever the message is, its length is 8
    piece = DecodeBytes(as_numbers, space=spaces.Box(0, 255, (8,), np.uint8))
    check_connector(piece, spaces.Box(low, high, dtype=np.uint8), ACTION)


# What is bad ----------------------------------------------------------------------------------------------------------

BAD = [
    (as_msgpack(position=[0.5]), r"at \['position'\]: Expected `array` of length >= 2"),
    (as_msgpack(position=[0.5, "1"]), r"at \['position'\]: Expected `float`, got `str`"),
    (as_msgpack(position=[0.5, True]), r"at \['position'\]: Expected `float`, got `bool`"),
    (as_msgpack(position=[0.5, None]), r"at \['position'\]: Expected `float`, got `null`"),
    (as_msgpack(position=[0.5, 1.25]), r"at \['position'\]: got the number 1.25, expected finite ones within"),
    (as_msgpack(position=[0.5, float("nan")]), r"at \['position'\]: got the number nan"),
    (as_msgpack(position=3.0), r"at \['position'\]: Expected `array`, got `float`"),
    (as_msgpack(gear=4), r"at \['gear'\]: got the number 4"),
    (as_msgpack(gear=-2), r"at \['gear'\]: got the number -2"),
    (as_msgpack(gear=2.5), r"at \['gear'\]: Expected `int`, got `float`"),
    (as_msgpack(gear=2**64 - 1), r"at \['gear'\]: "),
    (as_msgpack(parts=[[1, 300], [0, 1, 1], [[7, 255]]]), r"at \['parts'\]\[0\]: got the number 300"),
    (as_msgpack(parts=[[1, 2], [0, 1, 2], [[7, 255]]]), r"at \['parts'\]\[1\]: got the number 2"),
    (as_msgpack(parts=[[1, 2], [0, 1, 1], [[7, 256]]]), r"at \['parts'\]\[2\]: got the number 256"),
    (as_msgpack(parts=[[1, 2], [0, 1, 1]]), r"at \['parts'\]: got 2 parts, expected a list of 3 parts"),
    (as_msgpack(parts=7), r"at \['parts'\]: got a value of type int, expected a list"),
    (as_msgpack(more=1), r"got \['gear', 'more', 'parts', 'position'\], expected a mapping with the keys"),
    (msgspec.msgpack.encode([1, 2]), "got a value of type list, expected a mapping with the keys"),
    (as_msgpack()[:-1], "message of .* bytes cannot be decoded: DecodeError: Input data was truncated"),
    (as_msgpack() + b"\0", "cannot be decoded: DecodeError: .*trailing"),
    (b"", "its message of 0 bytes cannot be decoded"),
    (b"\xdd\xff\xff\xff\xff", "cannot be decoded: DecodeError: Input data was truncated"),
    (b"\x91" * (SIZE - 4), "cannot be decoded"),
    (np.full(SIZE, 255, np.uint8), f"claims to have {2**32 - 1} bytes, and {SIZE} have room for {SIZE - 4}"),
    (np.r_[pack_bytes(bytes(SIZE), SIZE + 4)[:SIZE]], f"claims to have {SIZE} bytes"),
]


@pytest.mark.parametrize(("message", "problem"), BAD, ids=[problem[:40] for _, problem in BAD])
def test_bad_messages_are_refused_with_their_slots(message, problem):
    with pytest.raises(BadObservationError, match=f"Observation of slot 1: DecodeMsgpack: .*{problem}") as caught:
        decoded(DecodeMsgpack(space=SPACE), [as_msgpack(), message, as_msgpack(), message])
    assert caught.value.slots == (1, 3)


def test_problems_of_several_kinds_name_all_slots_and_tell_the_first():
    messages = [as_msgpack(), as_msgpack(gear=9), b"", as_msgpack(), as_msgpack(position=[2.0, 0.0])]
    with pytest.raises(BadObservationError, match=r"slot 1: .*'gear'.*number 9") as caught:
        decoded(DecodeMsgpack(space=SPACE), messages)
    assert caught.value.slots == (1, 2, 4)


@given(st.binary(max_size=60), st.integers(0, 100))
def test_no_bytes_raise_anything_else(message, length):
    row = pack_bytes(message, SIZE)
    row[0] = length
    good = spaces.Tuple([spaces.Box(-np.inf, np.inf, (2,)), spaces.Discrete(3)])
    with contextlib.suppress(BadObservationError):
        obs = decoded(DecodeMsgpack(space=good), [row])
        assert np.isfinite(obs[0]).all()


def test_a_number_that_single_precision_cannot_hold_is_refused():
    piece = DecodeMsgpack(space=spaces.Box(-np.inf, np.inf, (1,)))
    with pytest.raises(BadObservationError, match="got the number inf, expected finite"):
        decoded(piece, [msgspec.msgpack.encode([1e300])])


def test_many_strings_take_no_memory():
    strings = ["x" * 400_000, *[""] * 400_000]  # an array of them would be 640 GB
    piece = DecodeMsgpack(space=spaces.Box(0, 1, (400_001,)))
    with pytest.raises(BadObservationError, match="Expected `float`, got `str`"):
        decoded(piece, [msgspec.msgpack.encode(strings)], size=2**20)


def test_long_problems_are_cut_off():
    with pytest.raises(BadObservationError) as caught:
        decoded(DecodeMsgpack(space=SPACE), [msgspec.msgpack.encode({"x" * 5000: 1})], size=2**13)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "space", [spaces.Box(0, 255, (4,), np.uint8), spaces.Box(0, 255, (9, 1), np.uint8), spaces.Box(0, 1, (9,))]
)
def test_observations_that_are_no_bytes_are_refused(space):
    with pytest.raises(ConfigError, match=r"takes bytes, Box\(0, 255, \(N,\), uint8\).*pack_bytes"):
        ObsChain([DecodeMsgpack(space=SPACE)], space, ACTION)


@pytest.mark.parametrize("space", [None, 3, {"type": "Box"}, spaces.Text(5)])
def test_what_is_no_space_is_refused(space):
    with pytest.raises(ValueError, match="DecodeMsgpack|supported are Box"):
        DecodeMsgpack(space=space)
    with pytest.raises(ConfigError, match="DecodeBytes: got decode_fn=None"):
        DecodeBytes(None, space=SPACE)


# Protocol Buffers -----------------------------------------------------------------------------------------------------


def make_messages():
    """The classes protoc would make of: Part {repeated int64 indices; bytes image}, Robot {repeated float position;
    int32 gear; Part part; repeated Part parts; string name}."""
    pool = pytest.importorskip("google.protobuf.descriptor_pool").DescriptorPool()
    from google.protobuf import descriptor_pb2, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="robot.proto", package="robot", syntax="proto3")
    types = descriptor_pb2.FieldDescriptorProto

    def add(message, number, name, kind, repeated=False):
        field = message.field.add(name=name, number=number)
        field.label = types.LABEL_REPEATED if repeated else types.LABEL_OPTIONAL
        if isinstance(kind, str):
            field.type, field.type_name = types.TYPE_MESSAGE, kind
        else:
            field.type = kind

    part = file.message_type.add(name="Part")
    add(part, 1, "indices", types.TYPE_INT64, repeated=True)
    add(part, 2, "image", types.TYPE_BYTES)
    robot = file.message_type.add(name="Robot")
    add(robot, 1, "position", types.TYPE_FLOAT, repeated=True)
    add(robot, 2, "gear", types.TYPE_INT32)
    add(robot, 3, "part", ".robot.Part")
    add(robot, 4, "parts", ".robot.Part", repeated=True)
    add(robot, 5, "name", types.TYPE_STRING)
    pool.Add(file)
    return [message_factory.GetMessageClass(pool.FindMessageTypeByName(f"robot.{name}")) for name in ("Robot", "Part")]


PART = spaces.Dict(indices=spaces.MultiDiscrete([4, 4]), image=spaces.Box(0, 255, (2, 2), np.uint8))
ROBOT = spaces.Dict(
    position=spaces.Box(-1, 1, (2,)), gear=spaces.Discrete(5), part=PART, parts=spaces.Tuple([PART, PART])
)


def robot(robot_class, part_class, **changes):
    part = part_class(indices=[1, 3], image=bytes([1, 2, 3, 4]))
    fields = {"position": [0.5, -0.5], "gear": 2, "part": part, "parts": [part, part], "name": "r2"}
    return robot_class(**fields | changes).SerializeToString()


def test_protobuf_messages_become_a_batch_of_the_space():
    classes = make_messages()
    obs = decoded(DecodeProtobuf(classes[0], space=ROBOT), [robot(*classes), robot(*classes, gear=0)])
    assert obs["position"].tolist() == [[0.5, -0.5]] * 2
    assert obs["gear"].tolist() == [2, 0]
    assert obs["part"]["indices"].tolist() == [[1, 3]] * 2
    assert obs["parts"][1]["image"].tolist() == [[[1, 2], [3, 4]]] * 2
    only = decoded(DecodeProtobuf(classes[0], "position", space=ROBOT["position"]), [robot(*classes)])
    assert only.tolist() == [[0.5, -0.5]]


def test_bad_protobuf_messages_are_refused_with_their_slots():
    classes = make_messages()
    good = robot(*classes)
    for bad, problem in (
        (good[:-6], "cannot be decoded: DecodeError"),
        (b"", "at .'position'.: Expected `array` of length >= 2"),
        (robot(*classes, gear=7), "at .'gear'.: got the number 7"),
        (robot(*classes, parts=[]), "at .'parts'.: got 0 parts, expected a list of 2 parts"),
    ):
        with pytest.raises(BadObservationError, match=f"slot 1: DecodeProtobuf: .*{problem}") as caught:
            decoded(DecodeProtobuf(classes[0], space=ROBOT), [good, bad])
        assert caught.value.slots == (1,)


def test_a_protobuf_piece_is_stored_with_the_path_of_its_message():
    duration_pb2 = pytest.importorskip("google.protobuf.duration_pb2")
    piece = DecodeProtobuf(duration_pb2.Duration, space=spaces.Dict(seconds=spaces.Discrete(100)))
    assert decode(json.loads(json.dumps(encode(piece))), allow=["rl_connectors", "google"]) == piece
    message = duration_pb2.Duration(seconds=42).SerializeToString()
    assert decoded(piece, [message])["seconds"].tolist() == [42]


def test_a_message_without_the_fields_of_the_space_is_refused():
    robot_class, _ = make_messages()
    for space, problem in (
        (spaces.Dict(positoin=ROBOT["position"]), "robot.Robot has no field 'positoin', only .*mean 'position'"),
        (ROBOT["position"], "has Box.* where there is the message robot.Robot"),
        (spaces.Dict(part=ROBOT["position"]), "has Box.* where there is the message robot.Part"),
        (spaces.Dict(gear=PART), "has Dict.* where there is numbers"),
    ):
        with pytest.raises(ConfigError, match=problem):
            ObsChain([DecodeProtobuf(robot_class, space=space)], BYTES, ACTION)
    with pytest.raises(ConfigError, match="got message=.*expected a class that protoc made"):
        DecodeProtobuf(dict, space=ROBOT)


# With an env ----------------------------------------------------------------------------------------------------------


class PackedEnv(gymnasium.Env):
    """Counts up to 4 in messages."""

    observation_space, action_space = BYTES, ACTION

    def reset(self, *, seed=None, options=None):
        self.time = 0
        return self.pack(), {}

    def step(self, action):
        self.time += 1
        return self.pack(), 1.0, self.time == 4, False, {}

    def pack(self):
        return pack_bytes(msgspec.msgpack.encode([self.time / 4, 1.0]), SIZE)


def test_a_policy_acts_on_messages_and_says_which_it_cannot_use():
    env = PackedEnv()
    piece = DecodeMsgpack(space=spaces.Box(0, 1, (2,)))
    spec = ModuleSpec(model_config=ModelSettings(fcnet_hiddens=(4,)))
    policy = Policy(spec, BYTES, ACTION, obs_connectors=[piece], action_connectors=[ActionToEnv()])
    obs, _ = env.reset()
    action, state = policy.act(obs)
    action, state = policy.act(env.step(action)[0], state)
    assert action in ACTION
    with pytest.raises(BadObservationError, match="claims to have"):
        policy.act(np.full(SIZE, 9, np.uint8), state)
