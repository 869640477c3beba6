import numpy as np
import pytest

from rl_envs import ActionMaskEnv


def at(place, mask, **settings):
    env = ActionMaskEnv(num_actions=len(mask), **settings)
    env.reset(seed=0)
    env.place, env.mask = np.array([place], np.float32), np.array(mask, np.int8)
    return env


@pytest.mark.parametrize(("place", "action", "reward"), [(-1.0, 0, 1.0), (1.0, 0, 0.0), (0.0, 2, 1.0), (0.5, 4, 0.75)])
def test_reward_by_hand(place, action, reward):
    assert at(place, [1] * 5).step(action)[1] == reward


def test_a_forbidden_action_raises_and_is_named():
    with pytest.raises(ValueError, match=r"action 1 is forbidden in this step; 2 of 3 actions are allowed.*mask"):
        at(0.0, [1, 0, 1]).step(1)


def test_a_forbidden_action_can_be_given_a_reward_instead():
    env = at(0.0, [1, 0, 1], forbidden_reward=-2)
    obs, reward, terminated, truncated, _ = env.step(np.int64(1))
    assert (reward, terminated, truncated) == (-2.0, False, False)
    assert obs in env.observation_space


def test_at_least_one_action_is_always_allowed():
    env = ActionMaskEnv(num_actions=3, allowed_share=0.0, episode_length=300)
    obs, _ = env.reset(seed=0)
    chosen = set()
    for _ in range(300):
        (allowed,) = np.flatnonzero(obs["action_mask"])
        chosen.add(int(allowed))
        obs, *_ = env.step(allowed)
    assert chosen == {0, 1, 2}


def play(choose, num_episodes=10):
    env, returns = ActionMaskEnv(), []
    for episode in range(num_episodes):
        obs, _ = env.reset(seed=episode)
        total, truncated = 0.0, False
        while not truncated:
            obs, reward, _, truncated, _ = env.step(choose(obs))
            total += reward
        returns.append(total)
    return np.mean(returns)


def test_best_and_random_policies_reach_the_documented_returns():
    random = np.random.default_rng(0)
    places = np.linspace(-1, 1, 100)

    def nearest(obs):
        allowed = np.flatnonzero(obs["action_mask"])
        return allowed[np.abs(places[allowed] - obs["observations"]).argmin()]

    assert play(nearest) == pytest.approx(99.24, abs=0.1)
    assert play(lambda obs: random.choice(np.flatnonzero(obs["action_mask"]))) == pytest.approx(66.5, abs=3.0)


def test_observations_are_the_users_to_change():
    env = ActionMaskEnv()
    obs, _ = env.reset(seed=0)
    forbidden = int(np.flatnonzero(obs["action_mask"] == 0)[0])
    obs["action_mask"][:] = 1
    with pytest.raises(ValueError, match=f"action {forbidden} is forbidden"):
        env.step(forbidden)
