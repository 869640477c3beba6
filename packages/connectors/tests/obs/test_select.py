import numpy as np
import pytest
from gymnasium import spaces

from rl_connectors.obs.select import RenameKeys, SelectKey, SelectKeys
from rl_core.connect.chain import ObsChain
from rl_core.errors import ConfigError
from rl_core.testing import check_connector

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
SPACE = spaces.Dict([("speed", VECTOR), ("camera", spaces.Discrete(3)), ("arm", spaces.Tuple([VECTOR, VECTOR]))])
PIECES = [
    SelectKeys(("arm", "speed")),
    SelectKeys(("camera",)),
    SelectKey("arm"),
    SelectKey("camera"),
    RenameKeys((("speed", "velocity"),)),
    RenameKeys((("speed", "camera"), ("camera", "speed"))),
]


@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_conforms(piece):
    check_connector(piece, SPACE, spaces.Discrete(2))


def test_selected_parts_come_in_the_order_asked_for(apply):
    obs = {"speed": np.zeros((2, 3), np.float32), "camera": np.array([1, 2]), "arm": (np.ones(2), np.ones(2))}
    result, space = apply(SelectKeys(("arm", "speed")), SPACE, obs)
    assert list(result) == list(space) == ["arm", "speed"]
    assert result["speed"] is obs["speed"]
    result, space = apply(SelectKey("camera"), SPACE, obs)
    assert result is obs["camera"]
    assert space == spaces.Discrete(3)


def test_renamed_parts_keep_their_place_and_may_swap_names(apply):
    obs = {"speed": np.zeros((2, 3), np.float32), "camera": np.array([1, 2]), "arm": (np.ones(2), np.ones(2))}
    result, space = apply(RenameKeys((("speed", "camera"), ("camera", "speed"))), SPACE, obs)
    assert list(result) == list(space) == ["camera", "speed", "arm"]
    assert result["camera"] is obs["speed"]
    assert space["speed"] == spaces.Discrete(3)


@pytest.mark.parametrize(
    "piece", [SelectKeys(("camra",)), SelectKey("camra"), RenameKeys((("camra", "eye"),))], ids=repr
)
def test_an_unknown_key_is_told_with_the_nearest(piece):
    with pytest.raises(
        ConfigError, match=r"no key 'camra' among \['speed', 'camera', 'arm'\].*Did you mean 'camera'\?"
    ):
        ObsChain([piece], SPACE, spaces.Discrete(2))


@pytest.mark.parametrize("piece", PIECES, ids=repr)
def test_an_observation_without_keys_is_refused(piece):
    with pytest.raises(ConfigError, match=f"{type(piece).__name__} takes Dict observations, got Box"):
        ObsChain([piece], VECTOR, spaces.Discrete(2))


def test_two_parts_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="two parts would be called 'arm'"):
        ObsChain([RenameKeys((("speed", "arm"),))], SPACE, spaces.Discrete(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: SelectKeys(()),
        lambda: SelectKeys(("a", "a")),
        lambda: SelectKeys("speed"),
        lambda: RenameKeys(()),
        lambda: RenameKeys((("a", "b"), ("a", "c"))),
        lambda: RenameKeys(("a", "b")),
    ],
)
def test_settings_that_name_nothing_are_refused(make):
    with pytest.raises(ConfigError, match=r"(keys|names) is .*, expected a tuple of"):
        make()
