"""Leagues: who meets whom, when copies are frozen, and what stays as it was."""

import pytest
import torch

from rl_core import Algorithm, PPOConfig
from rl_core.errors import ConfigError
from rl_core.module import MaskedActorCritic
from rl_multiagent import MultiAgent, OpenSpielEnv, PolicySpec
from rl_multiagent.selfplay import (
    League,
    LeaguePlayer,
    UniformRandom,
    league_exploiter,
    main_exploiter,
    main_player,
    uniform,
)

pytest.importorskip("pyspiel")

AGENTS = ("player_0", "player_1")
EASY = {"main": LeaguePlayer(freeze_at=0.0), "exploiter": main_exploiter(freeze_at=0.0)}
"""Players that win enough once they have played."""


def make_algorithm(players, **settings):
    league = League(AGENTS, players, **settings)
    learning = {name: PolicySpec() for name in players}
    return (
        PPOConfig()
        .environment(OpenSpielEnv, env_config={"game": "tic_tac_toe"})
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=256, minibatch_size=64, lr=1e-2)
        .rl_module(module_class=MaskedActorCritic, model_config={"fcnet_hiddens": (16,)})
        .callbacks(callbacks_class=league)
        .use(
            MultiAgent(
                policies={**learning, "random": PolicySpec(module_class=UniformRandom)},
                policy_mapping_fn=league.mapping(("random",)),
                policies_to_train=tuple(players),
            )
        )
        .build()
    )


def league_of(algorithm):
    (league,) = algorithm.callbacks.members
    return league


def tensors_of(algorithm, name):
    return torch.cat([leaf.flatten() for leaf in algorithm.env_runner.policies[name].module.parameters()]).clone()


def test_main_exploiters_meet_main_and_main_meets_itself_and_the_hardest():
    players = {"main": main_player(turns=2), "exploiter": main_exploiter(), "league": league_exploiter()}
    league = League(AGENTS, players)
    for _ in range(20):
        league.table.record("main", "old", 1.0)
    first, second, exploiter, of_league = league.mapping(("random", "old")).matches
    assert first == second
    assert (first.learner, first.opponents) == ("main", ("main", "random", "old"))
    assert first.probabilities == pytest.approx((0.5, 0.5, 0.0), abs=0.01)
    assert (exploiter.learner, exploiter.opponents, exploiter.probabilities) == ("exploiter", ("main",), (1.0,))
    assert (of_league.opponents, of_league.probabilities) == (("random", "old"), (0.5, 0.5))


def test_copies_join_when_all_are_beaten_in_enough_games_and_stay_as_they_are():
    algorithm = make_algorithm({"main": LeaguePlayer(freeze_at=0.0, match_maker=uniform)}, min_games=60, max_size=4)
    sizes, frozen = [], {}
    for _ in range(12):
        result = algorithm.train()
        sizes.append(result["league/size"])
        for name, tensors in frozen.items():
            assert torch.equal(tensors, tensors_of(algorithm, name))
        frozen = {name: tensors_of(algorithm, name) for name in algorithm.env_runner.policies if "_v" in name}
    assert sizes[0] == 2, "not after a few games"
    assert sizes == sorted(sizes)
    assert sizes[-1] == 4
    assert list(frozen) == ["main_v1", "main_v2"]
    assert not torch.equal(frozen["main_v1"], frozen["main_v2"])
    assert list(algorithm.learner.learners) == ["main"]
    assert 0 <= result["league/lowest_win_rate/main"] <= 1
    assert league_of(algorithm).table.num_games("main", "main_v2") > 0, "the newest copy is met"
    algorithm.stop()


def test_an_exploiter_begins_anew_after_its_copy_was_frozen():
    algorithm = make_algorithm(EASY, min_games=10)
    first = tensors_of(algorithm, "exploiter")
    while "exploiter_v1" not in algorithm.env_runner.policies:
        before = tensors_of(algorithm, "exploiter")
        algorithm.train()
    assert torch.equal(tensors_of(algorithm, "exploiter"), first)
    assert not torch.equal(tensors_of(algorithm, "exploiter_v1"), before)
    assert not torch.equal(tensors_of(algorithm, "exploiter_v1"), first)
    assert league_of(algorithm).table.num_games("exploiter", "main") == 0
    while "exploiter_v2" not in algorithm.env_runner.policies:
        algorithm.train()
    assert not torch.equal(tensors_of(algorithm, "exploiter_v2"), first), "it learned again"
    assert list(algorithm.learner.learners) == ["main", "exploiter"]
    algorithm.stop()


def test_a_league_goes_on_from_a_checkpoint(tmp_path):
    algorithm = make_algorithm(EASY, min_games=10)
    while "exploiter_v1" not in algorithm.env_runner.policies:
        algorithm.train()
    path, policies = algorithm.save(tmp_path / "saved"), list(algorithm.env_runner.policies)
    restored = Algorithm.from_checkpoint(path, allow=["rl_multiagent"])
    assert list(restored.env_runner.policies) == policies
    assert league_of(restored) == league_of(algorithm)
    assert restored.train()["league/size"] >= len(policies)
    algorithm.stop()
    restored.stop()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: League(AGENTS, {}), "no players"),
        (lambda: League(AGENTS, {"exploiter": main_exploiter()}), "is to meet 'main', but players are only exploiter"),
        (lambda: League(AGENTS, {"a": LeaguePlayer(learners=("a",), learner_share=1.0)}), "meets nobody but itself"),
        (lambda: League(AGENTS, {"main": main_player()}, min_games=0), r"min_games=0.*from 1 to 200"),
        (lambda: League(AGENTS, {"main": main_player()}, decay=0.9), r"min_games=100.*from 1 to 10"),
        (lambda: League(AGENTS, {"main": main_player()}, decay=1.5), r"decay=1\.5"),
        (lambda: League(AGENTS, {"main": main_player()}).mapping(()), "no frozen policy that 'main' could meet"),
        (lambda: LeaguePlayer(freeze_at=1.5), r"freeze_at=1\.5"),
        (lambda: LeaguePlayer(learner_share=-1), "learner_share=-1"),
        (lambda: LeaguePlayer(turns=0), "turns=0"),
    ],
)
def test_a_league_that_cannot_be_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_policy_of_the_mapping_that_is_not_in_the_run_is_named():
    league = League(AGENTS, {"main": main_player()})
    config = (
        PPOConfig()
        .environment(OpenSpielEnv, env_config={"game": "tic_tac_toe"})
        .rl_module(module_class=MaskedActorCritic)
        .use(MultiAgent(policies=("main",), policy_mapping_fn=league.mapping(("nobody",))))
    )
    with pytest.raises(ConfigError, match=r"mapped to 'nobody' in episode 0 of env slot \d+, which is no policy"):
        config.build().train()
