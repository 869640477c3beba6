"""A league at connect four: a main player, exploiters, and frozen copies of all of them.

Shows: `League` with the three kinds of players of AlphaStar's. The main player meets itself and all frozen ones, those
most that it beats least (`--match-maker` chooses another rule); the main exploiter meets the main player as it is now;
the league exploiter meets all frozen ones. Who wins often enough gets a frozen copy in the league, and an exploiter
then begins anew. `--num-episodes-human-play 2` lets you play against the main player afterwards.
Needs pip install "rl-multiagent[openspiel]".
Criterion: within 2,000,000 env steps the league has 8 policies, and the main player's mean score against the frozen
ones is 0.85 (a draw is 0.5): 40 games against each, half as either side, with actions drawn from the policies.
Command: python examples/multi_agent/self_play_league_based_with_open_spiel.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 0.88, 0.89, 0.88 after 614,400, 368,640, 368,640 steps (101 to 196 s).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from rl_core import Algorithm, PPOConfig
from rl_core.cli.options import number_above, whole_number
from rl_core.example import Verdict, example_parser, finish_example, train_example
from rl_core.module import MaskedActorCritic
from rl_multiagent import MultiAgent, OpenSpielEnv, PolicySpec
from rl_multiagent.selfplay import (
    League,
    UniformRandom,
    even,
    league_exploiter,
    main_exploiter,
    main_player,
    play,
    play_match,
    prioritized,
    unbeaten,
    uniform,
)

GAME = {"game": "connect_four", "flatten": False}
"""Observations are planes of 6 x 7, for convolutions."""
AGENTS = ("player_0", "player_1")
GAMES_EACH = 40
MATCH_MAKERS = {"prioritized": prioritized, "even": even, "unbeaten": unbeaten, "uniform": uniform}

parser = example_parser(__doc__, stop_timesteps=2_000_000)
parser.add_argument("--win-rate", type=number_above(0, float), default=0.85, metavar="W", help="default: 0.85")
parser.add_argument("--league-size", type=whole_number, default=8, metavar="N", help="policies to have; default: 8")
parser.add_argument("--freeze-at", type=number_above(0, float), default=0.7, metavar="W", help="default: 0.7")
parser.add_argument("--match-maker", choices=MATCH_MAKERS, default="prioritized", help="default: prioritized")
parser.add_argument(
    "--num-episodes-human-play", type=whole_number, default=0, metavar="N", help="games against you at the end"
)

if __name__ == "__main__":
    args = parser.parse_args()
    maker = MATCH_MAKERS[args.match_maker]
    players = {
        "main": main_player(match_maker=maker, freeze_at=args.freeze_at, turns=2),
        "main_exploiter": main_exploiter(freeze_at=args.freeze_at),
        "league_exploiter": league_exploiter(match_maker=maker, freeze_at=args.freeze_at),
    }
    league = League(AGENTS, players, max_size=args.league_size)
    learning = {name: PolicySpec() for name in players}
    config = (
        PPOConfig()
        .environment(OpenSpielEnv, env_config=GAME)
        .env_runners(num_envs_per_env_runner=64)
        .training(train_batch_size_per_learner=4096, minibatch_size=512, num_epochs=4, lr=1e-3, gamma=0.99)
        .training(entropy_coeff=0.003)
        .rl_module(module_class=MaskedActorCritic)
        .callbacks(callbacks_class=league)
        .use(
            MultiAgent(
                policies={**learning, "random": PolicySpec(module_class=UniformRandom)},
                policy_mapping_fn=league.mapping(("random",)),
                policies_to_train=tuple(players),
            )
        )
    )

    def main_beats_the_league(algorithm: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """Once the league is complete, judge by games against all that are frozen."""
        policies = algorithm.env_runner.policies
        if len(policies) < args.league_size:
            return False, f"league of {len(policies)}, goal {args.league_size}"
        env, seed = OpenSpielEnv(**GAME), algorithm.iteration
        scores = {
            name: play_match(env, policies["main"], policies[name], num_games=GAMES_EACH, seed=seed).mean()
            for name in league.frozen(policies)
        }
        mean, hardest = float(np.mean(list(scores.values()))), min(scores, key=lambda name: scores[name])
        words = f"league of {len(policies)}, score against it {mean:.2f}, goal {args.win_rate:g}, lowest "
        return mean >= args.win_rate, words + f"{scores[hardest]:.2f} against {hardest}"

    outcome = train_example(config, args, criterion=main_beats_the_league, evaluate_every=60_000)
    main = outcome.algorithm.env_runner.policies["main"]
    for game in range(args.num_episodes_human_play):
        person, other = AGENTS[game % 2], AGENTS[1 - game % 2]
        play(OpenSpielEnv(**GAME), {other: main}, person=person)
    finish_example(outcome, args)
