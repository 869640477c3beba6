"""Self-play at connect four: a policy learns against frozen copies of itself.

Shows: `League` with one player. It begins against an opponent that plays at random; when it wins often enough against
all that are frozen, a copy of it joins them. Who plays which side depends on the seed, the env slot and the number of
the game alone, not on the process. `--num-episodes-human-play 2` lets you play against it afterwards.
Needs pip install "rl-multiagent[openspiel]".
Criterion: within 1,000,000 env steps three copies were made, and it wins 95 % of 1000 games against random, half as
either side and with actions drawn from the policy.
Command: python examples/multi_agent/self_play_with_open_spiel.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 95.0 %, 95.1 %, 95.7 % after 450,560, 450,560, 655,360 steps (73 to 131 s).
"""

from collections.abc import Mapping
from typing import Any

from rl_core import Algorithm, PPOConfig
from rl_core.cli.options import number_above, whole_number
from rl_core.example import Verdict, example_parser, finish_example, train_example
from rl_core.module import MaskedActorCritic
from rl_multiagent import MultiAgent, OpenSpielEnv, PolicySpec
from rl_multiagent.selfplay import League, LeaguePlayer, UniformRandom, play, play_match, random_policy, uniform

GAME = {"game": "connect_four", "flatten": False}
"""Observations are planes of 6 x 7, for convolutions."""
AGENTS = ("player_0", "player_1")
NUM_GAMES = 1000
"""So many that the first evaluation to pass did not pass by luck."""

parser = example_parser(__doc__, stop_timesteps=1_000_000)
parser.add_argument("--win-rate", type=number_above(0, float), default=0.95, metavar="W", help="default: 0.95")
parser.add_argument("--num-copies", type=whole_number, default=3, metavar="N", help="copies to make; default: 3")
parser.add_argument(
    "--num-episodes-human-play", type=whole_number, default=0, metavar="N", help="games against you at the end"
)

if __name__ == "__main__":
    args = parser.parse_args()
    league = League(AGENTS, {"main": LeaguePlayer(match_maker=uniform, freeze_at=0.85)}, max_size=args.num_copies + 2)
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
                policies={"main": PolicySpec(), "random": PolicySpec(module_class=UniformRandom)},
                policy_mapping_fn=league.mapping(("random",)),
                policies_to_train=("main",),
            )
        )
    )

    def main_wins(algorithm: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """Once there are enough copies, judge by games against random."""
        num_copies = int(result["league/size"]) - 2
        if num_copies < args.num_copies:
            return False, f"{num_copies} copies, goal {args.num_copies}"
        env, main = OpenSpielEnv(**GAME), algorithm.env_runner.policies["main"]
        random = random_policy(env, AGENTS[0], seed=1)
        scores = play_match(env, main, random, num_games=NUM_GAMES, seed=algorithm.iteration)
        wins = float((scores == 1.0).mean())
        return wins >= args.win_rate, f"{wins:.1%} of {NUM_GAMES} games against random won, {num_copies} copies"

    outcome = train_example(config, args, criterion=main_wins, evaluate_every=40_000)
    main = outcome.algorithm.env_runner.policies["main"]
    for game in range(args.num_episodes_human_play):
        person, other = AGENTS[game % 2], AGENTS[1 - game % 2]
        play(OpenSpielEnv(**GAME), {other: main}, person=person)
    finish_example(outcome, args)
