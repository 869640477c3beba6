import gymnasium
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from rl_core.env.make import make_vector_env
from rl_envs import (
    HeavyCartPole,
    HeavyCartPoleVector,
    StatelessCartPole,
    StatelessCartPoleVector,
    TruncatedCartPole,
    TruncatedCartPoleVector,
)
from rl_envs.cart_pole import ALL, POSITIONS, heavy_projection

PAIRS = [
    (StatelessCartPole, StatelessCartPoleVector),
    (HeavyCartPole, HeavyCartPoleVector),
    (TruncatedCartPole, TruncatedCartPoleVector),
]


def test_spaces_have_the_bounds_of_cart_pole():
    original = CartPoleEnv().observation_space
    assert ALL.space() == original
    assert POSITIONS.space() == gymnasium.spaces.Box(original.low[::2], original.high[::2])
    assert HeavyCartPole().observation_space.shape == (1024,)


def test_stateless_shows_cart_position_and_pole_angle_of_the_same_motion():
    env, original = StatelessCartPole(), gymnasium.make("CartPole-v1")
    obs, full = env.reset(seed=3)[0], original.reset(seed=3)[0]
    for step in range(200):
        np.testing.assert_array_equal(obs, full[[0, 2]])
        (obs, *one, _), (full, *two, _) = env.step(step % 2), original.step(step % 2)
        assert one == two
        if one[1]:
            break
    assert one[1]


def test_one_step_by_hand():
    env = TruncatedCartPole()
    env.reset(seed=0)
    env.state = np.zeros(4)
    obs, reward, *_ = env.step(1)
    # From rest, upright: force 10 N, cart 1 kg, pole 0.1 kg of half length 0.5 m, 0.02 s.
    angular = -(10 / 1.1) / (0.5 * (4 / 3 - 0.1 / 1.1))
    linear = 10 / 1.1 - 0.05 * angular / 1.1
    np.testing.assert_allclose(obs, [0, 0.02 * linear, 0, 0.02 * angular], rtol=1e-6)
    assert reward == 1.0


def test_heavy_loses_nothing():
    env, original = HeavyCartPole(), CartPoleEnv()
    inverse = np.linalg.pinv(heavy_projection().astype(np.float64))
    wide, full = env.reset(seed=3)[0], original.reset(seed=3)[0]
    for step in range(8):
        np.testing.assert_allclose(wide @ inverse, full, atol=1e-5)
        wide, full = env.step(step % 2)[0], original.step(step % 2)[0]


def test_the_heavy_projection_is_nearly_orthogonal_and_keeps_the_size():
    projection = heavy_projection().astype(np.float64)
    gram = projection @ projection.T / 256  # 1024 features of variance 1/4
    np.testing.assert_allclose(gram, np.eye(4), atol=0.1)


def test_the_heavy_projection_is_the_same_everywhere():
    first, last = heavy_projection()[0, 0], heavy_projection()[3, 1023]
    np.testing.assert_allclose([first, last], [0.3239530920982361, -0.14643272757530212], rtol=1e-6)


@pytest.mark.parametrize(("env", "limit"), [(TruncatedCartPole(), 50), (StatelessCartPole(max_steps=7), 7)])
def test_long_episodes_are_truncated(env, limit):
    env.reset(seed=0)
    for step in range(1, limit + 1):
        env.state = np.zeros(4)  # never falls
        _, _, terminated, truncated, _ = env.step(0)
        assert (terminated, truncated) == (False, step == limit)
    env.reset()
    assert not env.step(0)[3]


@pytest.mark.parametrize(("single_class", "vector_class"), PAIRS)
def test_vectorised_form_agrees_with_single_envs_step_by_step(single_class, vector_class):
    """In every slot a single env starts where the vectorised slot does, and from then on both do the same."""
    num_envs, limit = 4, 30
    vector = vector_class(num_envs, max_steps=limit)
    singles = [single_class(max_steps=limit) for _ in range(num_envs)]
    assert vector.single_observation_space == singles[0].observation_space
    assert vector.single_action_space == singles[0].action_space
    random = np.random.default_rng(1)
    vector.reset(seed=0)
    fresh, ends = np.ones(num_envs, dtype=bool), []
    for _ in range(150):
        for slot in np.flatnonzero(fresh):
            singles[slot].reset(seed=0)
            singles[slot].state = vector.state[:, slot].copy()
        # The first two slots balance for longer than the limit, the others fall.
        actions = random.integers(0, 2, num_envs)
        actions[:2] = (vector.state[2] + vector.state[3] > 0)[:2]
        obs, reward, terminated, truncated, _ = vector.step(actions)
        for slot in np.flatnonzero(~(was_done := np.zeros(num_envs, bool) if not ends else ends[-1])):
            expected = singles[slot].step(int(actions[slot]))
            np.testing.assert_allclose(obs[slot], expected[0], rtol=1e-5, atol=1e-6)
            assert (reward[slot], terminated[slot], truncated[slot]) == expected[1:4]
        assert not (terminated | truncated)[was_done].any()
        fresh = was_done
        ends.append(terminated | truncated)
    assert np.sum(ends, axis=0).min() >= 3


@pytest.mark.parametrize("name", ["StatelessCartPole", "HeavyCartPole", "TruncatedCartPole"])
def test_the_id_leads_to_the_vectorised_form(name):
    env = make_vector_env(
        f"rl_envs:rl_envs/{name}-v0", num_envs=3, vectorize_mode="vector_entry_point", env_config={"max_steps": 5}
    )
    env.reset(seed=0)
    for _ in range(5):
        step = env.step(np.array([0, 1, 0]))
    assert step.truncated.all()
    assert not step.terminated.any()
    assert env.step(np.array([0, 1, 0])).artificial.all()


def test_two_observations_are_enough_to_balance_without_velocities():
    env = make_vector_env("rl_envs:rl_envs/StatelessCartPole-v0", num_envs=8, vectorize_mode="vector_entry_point")
    obs = before = env.reset(seed=0).obs
    for _ in range(500):
        velocity = (obs - before) / 0.02
        before = obs
        step = env.step((obs @ [0.05, 1.0] + velocity @ [0.1, 0.3] > 0).astype(np.int64))
        obs = step.obs
        assert not step.terminated.any()
    assert step.truncated.all()


def test_pictures_are_those_of_cart_pole():
    pytest.importorskip("pygame")
    env, original = StatelessCartPole(render_mode="rgb_array"), CartPoleEnv(render_mode="rgb_array")
    for one in (env, original):
        one.reset(seed=0)
    np.testing.assert_array_equal(env.render(), original.render())
    for one in (env, original):
        one.close()
