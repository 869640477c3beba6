from fractions import Fraction

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_connectors.obs.cast import CastObs
from rl_connectors.obs.image import ChannelsFirst, ChannelsLast, GrayImage, ResizeImage, ScaleImage
from rl_connectors.obs.one_hot import OneHotObs
from rl_core.connect.chain import ObsChain
from rl_core.connect.protocol import observations_only
from rl_core.env.spaces import same_space
from rl_core.errors import ConfigError
from rl_core.testing import check_connector

ACTION = spaces.Discrete(2)
LARGEST = float(np.finfo(np.float32).max)
VECTOR = spaces.Box(-1, 1, (3,), np.float32)
IMAGE = spaces.Box(0, 255, (10, 8, 3), np.uint8)
NESTED = spaces.Dict(
    [  # not in the order of the alphabet
        ("numbers", spaces.Tuple([VECTOR, spaces.MultiDiscrete([2, 3], start=[1, -1])])),
        ("camera", IMAGE),
        ("gear", spaces.Discrete(4, start=2)),
        ("buttons", spaces.MultiBinary(2)),
        ("depth", spaces.Box(0.0, 5.0, (4, 6), np.float32)),
    ]
)
PIECES = [
    OneHotObs(),
    CastObs("float64"),
    CastObs("uint8"),
    GrayImage(),
    ResizeImage(4, 5),
    ChannelsFirst(),
    ScaleImage(),
]


@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_conforms_on_nested_observations(piece):
    check_connector(piece, NESTED, ACTION)


@pytest.mark.parametrize(
    ("piece", "space"),
    [
        (OneHotObs(), spaces.Discrete(2000, start=-3)),
        (OneHotObs(), spaces.MultiDiscrete([[2, 3], [4, 5]])),
        (CastObs("int8"), spaces.Box(-np.inf, np.inf, (2,))),
        (CastObs("float16"), spaces.Box(-1e6, 1e6, (2,), np.float64)),
        (CastObs("int64"), spaces.Box(-1e30, 1e30, (2,), np.float64)),
        (CastObs("float16"), spaces.Box(0, 2**40, (2,), np.int64)),
        (ResizeImage(20, 3), spaces.Box(0.1, 0.1, (6, 7), np.float32)),
        (ResizeImage(3, 3), spaces.Box(-0.3, 0.7, (7, 5, 2), np.float64)),
        (ResizeImage(3, 3), spaces.Box(0.0, 1.0, (7, 5, 2), np.float16)),
        (ScaleImage(), spaces.Box(0, 255, (4, 12, 12), np.uint8)),
    ],
    ids=repr,
)
def test_conforms_on_one_leaf(piece, space):
    check_connector(piece, space, ACTION)


@pytest.mark.parametrize("piece", [piece for piece in PIECES if not isinstance(piece, CastObs)], ids=repr)
def test_a_piece_with_nothing_to_change_is_refused(piece):
    with pytest.raises(ConfigError, match=rf"{type(piece).__name__} got observations of Box.*expected .* in them"):
        ObsChain([piece], VECTOR, ACTION)


def test_leaves_of_another_kind_and_the_order_of_keys_stay(apply):
    obs = {
        "numbers": (np.ones((2, 3), np.float32), np.array([[1, -1], [2, 1]])),
        "camera": np.zeros((2, 10, 8, 3), np.uint8),
        "gear": np.array([2, 5]),
        "buttons": np.ones((2, 2), np.int8),
        "depth": np.ones((2, 4, 6), np.float32),
    }
    result, space = apply(OneHotObs(), NESTED, obs)
    assert list(space) == list(result) == list(NESTED)
    assert all(result[key] is obs[key] for key in ("camera", "buttons", "depth"))
    assert result["numbers"][0] is obs["numbers"][0]
    assert result["gear"].tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert result["numbers"][1].tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 0, 1]]
    assert result["gear"].dtype == result["numbers"][1].dtype == np.float32


# Casting --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_type", "dtype", "bounds", "expected_bounds", "values", "expected"),
    [
        (np.float32, "int8", (-np.inf, np.inf), (-128, 127), [-1e9, -1.7, 1.7, 1e9], [-128, -1, 1, 127]),
        (
            np.float64,
            "int64",
            (-np.inf, np.inf),
            (-(2**63), 2**63 - 1024),
            [-1e30, 2.9, 1e30],
            [-(2**63), 2, 2**63 - 1024],
        ),
        (np.float64, "float32", (-np.inf, 1e300), (-np.inf, LARGEST), [1e300, -2.5], [LARGEST, -2.5]),
        (np.float64, "float32", (-1.0, 1.0), (-1.0, 1.0), [0.1, -1.0], [np.float32(0.1), -1.0]),
        (np.int64, "uint8", (-5, 1000), (0, 255), [-5, 7, 1000], [0, 7, 255]),
        (np.uint8, "int16", (0, 255), (0, 255), [0, 255], [0, 255]),
    ],
)
def test_casting_keeps_what_the_type_can_hold(apply, given_type, dtype, bounds, expected_bounds, values, expected):
    space = spaces.Box(*bounds, (len(values),), given_type)
    result, cast = apply(CastObs(dtype), space, np.array([values], given_type))
    low, high = expected_bounds
    wanted = spaces.Box(low, high, (len(values),), np.dtype(dtype).type)
    assert same_space(wanted, cast) is None
    assert result.dtype == dtype
    assert np.array_equal(result, np.array([expected], dtype))


def test_observations_of_that_type_are_passed_on_uncopied(apply):
    obs = np.ones((2, 3), np.float32)
    result, space = apply(CastObs("float32"), VECTOR, obs)
    assert result is obs
    assert same_space(VECTOR, space) is None


def test_an_unknown_number_type_is_refused():
    with pytest.raises(ConfigError, match="dtype is 'float8', expected one of float16, float32"):
        CastObs("float8")


# Images ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_gray_is_the_weighted_sum_rounded(colour):
    chain = ObsChain([GrayImage()], spaces.Box(0, 255, (1, 1, 3), np.uint8), ACTION)
    _, step = chain(chain.initial_state(1), observations_only(np.array([[[colour]]], np.uint8), np.ones(1, bool)))
    red, green, blue = colour
    assert step.obs.item() == (299 * red + 587 * green + 114 * blue + 500) // 1000
    assert step.obs.dtype == np.uint8


def overlap(i, p, old, new):
    """The share of pixel p of `old` that lies in part i of `new`, as a fraction of the part."""
    start, end = Fraction(i * old, new), Fraction((i + 1) * old, new)
    return max(min(end, Fraction(p + 1)) - max(start, Fraction(p)), Fraction(0)) / (end - start)


def slow_area_mean(image, height, width):
    """`[h, w]` fractions: the mean of each area, pixel by pixel."""
    rows, columns = image.shape
    return [
        [
            sum(
                overlap(i, y, rows, height) * overlap(j, x, columns, width) * Fraction(image[y, x].item())
                for y in range(rows)
                for x in range(columns)
            )
            for j in range(width)
        ]
        for i in range(height)
    ]


@settings(max_examples=25, deadline=None)
@given(st.tuples(*[st.integers(1, 7)] * 4), st.sampled_from([0, 2]), st.booleans(), st.integers(0, 1000))
def test_resizing_is_the_mean_of_areas(sizes, channels, whole, seed):
    rows, columns, height, width = sizes
    rows = max(rows, channels)  # with fewer rows the first axis would be the channels
    shape = (rows, columns, channels) if channels else (rows, columns)
    random = np.random.default_rng(seed)
    if whole:
        space, images = spaces.Box(0, 255, shape, np.uint8), random.integers(0, 256, (2, *shape), np.uint8)
    else:
        space, images = spaces.Box(0.0, 1.0, shape, np.float32), random.random((2, *shape), np.float32)
    chain = ObsChain([ResizeImage(height, width)], space, ACTION)
    _, step = chain(chain.initial_state(2), observations_only(images, np.ones(2, bool)))
    given_planes = images.reshape(2, rows, columns, -1)
    planes = step.obs.reshape(2, height, width, -1)
    for slot in range(2):
        for channel in range(planes.shape[-1]):
            expected = slow_area_mean(given_planes[slot, :, :, channel], height, width)
            if whole:
                assert planes[slot, :, :, channel].tolist() == [[round(mean) for mean in row] for row in expected]
            else:
                np.testing.assert_allclose(planes[slot, :, :, channel], np.array(expected, float), rtol=1e-6)
    assert step.obs.dtype == space.dtype


def test_large_images_are_resized_exactly(apply):
    images = np.random.default_rng(0).integers(0, 256, (2, 300, 400, 3), np.uint8)
    result, _ = apply(ResizeImage(3, 4), spaces.Box(0, 255, (300, 400, 3), np.uint8), images)
    sums = images.reshape(2, 3, 100, 4, 100, 3).astype(np.int64).sum((2, 4))
    assert np.array_equal(result, np.rint(sums / 10_000))


def test_channels_come_first(apply):
    images = np.random.default_rng(0).integers(0, 256, (2, 10, 8, 3), np.uint8)
    result, space = apply(ChannelsFirst(), IMAGE, images)
    assert space.shape == (3, 10, 8)
    assert np.array_equal(result[:, 1], images[..., 1])


def test_scaling_is_division_by_255(apply):
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    result, space = apply(ScaleImage(), spaces.Box(0, 255, (16, 16), np.uint8), images)
    assert np.array_equal(result[0].ravel(), (np.arange(256) / 255).astype(np.float32))
    assert same_space(spaces.Box(0.0, 1.0, (16, 16), np.float32), space) is None


@pytest.mark.parametrize("size", [(0, 3), (3, True), (3, 2.0)])
def test_sizes_that_are_no_pixels_are_refused(size):
    with pytest.raises(ConfigError, match=r"ResizeImage: (height|width) is .*, expected a whole number"):
        ResizeImage(*size)


def test_the_image_pieces_follow_one_another():
    chain = ObsChain([GrayImage(), ResizeImage(5, 4), ScaleImage()], NESTED, ACTION)
    assert chain.output_space["camera"] == spaces.Box(0.0, 1.0, (5, 4), np.float32)
    assert chain.output_space["depth"].shape == (5, 4)


def test_a_stack_of_gray_images_is_resized_plane_by_plane(apply):
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 10, 8), np.uint8)
    stacked, space = apply(ResizeImage(5, 3), spaces.Box(0, 255, (4, 10, 8), np.uint8), images)
    single, _ = apply(ResizeImage(5, 3), spaces.Box(0, 255, (10, 8), np.uint8), images.reshape(-1, 10, 8))
    assert space.shape == (4, 5, 3)
    assert np.array_equal(stacked, single.reshape(2, 4, 5, 3))


def test_channels_go_back_to_where_they_were(apply):
    image = spaces.Box(0, 255, (10, 8, 3), np.uint8)
    obs = np.random.default_rng(0).integers(0, 256, (2, 10, 8, 3), np.uint8)
    first, space = apply(ChannelsFirst(), image, obs)
    last, back = apply(ChannelsLast(), space, first)
    assert back == image
    assert np.array_equal(last, obs)


@pytest.mark.parametrize(
    ("piece", "shape"), [(ChannelsFirst(), (4, 84, 84)), (ChannelsLast(), (84, 84, 4))], ids=lambda value: str(value)
)
def test_channels_that_are_in_their_place_are_an_error_of_order(piece, shape):
    with pytest.raises(ConfigError, match=rf"connector 0 \({type(piece).__name__}\).*expected .* boxes of shape"):
        ObsChain([piece], spaces.Box(0, 255, shape, np.uint8), spaces.Discrete(2))
