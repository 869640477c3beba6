"""Self-play inside a run: frozen copies join it while it learns, and the learner meets them."""

import numpy as np
import pytest

from rl_core import PPOConfig
from rl_core.module import MaskedActorCritic
from rl_multiagent import MultiAgent, OpenSpielEnv, PolicySpec, add_policy
from rl_multiagent.selfplay import AgainstPool, PolicyPool, UniformRandom, WinTable, frozen_copy, games, prioritized

pytest.importorskip("pyspiel")

AGENTS = ("player_0", "player_1")


def make_algorithm():
    return (
        PPOConfig()
        .environment(OpenSpielEnv, env_config={"game": "tic_tac_toe"})
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=256, minibatch_size=64, lr=1e-2)
        .rl_module(module_class=MaskedActorCritic, model_config={"fcnet_hiddens": (16,)})
        .debugging(seed=0)
        .use(
            MultiAgent(
                policies={"main": PolicySpec(), "random": PolicySpec(module_class=UniformRandom)},
                policy_mapping_fn=AgainstPool(AGENTS, "main", ("random",), (1.0,)),
            )
        )
        .build()
    )


def tensors_of(policy):
    return {name: tensor.clone() for name, tensor in policy.module.state_dict().items()}


def same(first, second):
    return all((tensor == second[name]).all() for name, tensor in first.items())


def test_a_copy_from_the_pool_joins_the_run_and_stays_as_it_was():
    algorithm, pool = make_algorithm(), PolicyPool()
    algorithm.train()
    assert list(algorithm.learner.learners) == ["main"]
    name = pool.freeze("main", algorithm.env_runner.policies["main"])
    opponents = ("random", name)
    probabilities = prioritized([0.9, 0.5])
    add_policy(
        algorithm,
        name,
        PolicySpec(),
        weights=pool[name],
        policy_mapping_fn=AgainstPool(AGENTS, "main", opponents, tuple(probabilities)),
    )
    frozen = tensors_of(algorithm.env_runner.policies[name])
    assert same(frozen, tensors_of(pool[name]))
    for _ in range(3):
        result = algorithm.train()
    assert same(frozen, tensors_of(algorithm.env_runner.policies[name]))
    assert not same(frozen, tensors_of(algorithm.env_runner.policies["main"]))
    assert np.isfinite(result[f"env_runners/policy_episode_return_mean/{name}"])
    algorithm.stop()


def test_random_opponents_draw_in_an_evaluation_without_exploring():
    algorithm = make_algorithm()
    episodes = algorithm.env_runner.evaluate(num_episodes=40, seed=0, explore=False)
    kinds = {(int(length), *returns) for length, returns in zip(episodes.lengths, episodes.agent_returns, strict=True)}
    assert len(kinds) > 2, "one for each side, if nobody drew"
    algorithm.stop()


def test_ratings_are_fed_from_training_episodes():
    algorithm, table, returns = make_algorithm(), WinTable(), []
    for _ in range(3):
        algorithm.train()
        for game in games(algorithm.env_runner.episodes):
            table.record(*game)
        returns += algorithm.env_runner.episodes.parts["policy_episode_return_mean/main"].tolist()
    assert table.num_games("main", "random") == algorithm.num_episodes == len(returns)
    assert table.win_rate("main", "random") == pytest.approx((1 + np.mean(returns)) / 2)
    algorithm.stop()


def test_a_copy_plays_as_its_original_did():
    algorithm = make_algorithm()
    algorithm.train()
    copy = frozen_copy(algorithm.env_runner.policies["main"])
    env = OpenSpielEnv("tic_tac_toe")
    obs, _ = env.reset(seed=0)
    assert copy.act(obs["player_0"])[0] == algorithm.env_runner.policies["main"].act(obs["player_0"])[0]
    algorithm.stop()
