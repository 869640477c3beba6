"""Self-play at tic-tac-toe up to perfect play, which is proved by trying everything.

Shows: a policy that plays both sides against itself, now and then against random, while entropy and learning rate fall.
Its likeliest moves are judged by going through all 4,520 positions; training ends with the first policy that passes.
Needs pip install "rl-multiagent[openspiel]".
Criterion: within 1,500,000 env steps the policy's likeliest moves lose to no sequence of moves, as either side, so that
they draw perfect play; and they lose none of 200 games against random, half as either side.
Command: python examples/multi_agent/self_play_tic_tac_toe.py --as-test --seed 0
Reached: on seeds 0, 1, 2: after 409,600, 389,120, 225,280 steps (44 to 70 s).
"""

from collections.abc import Mapping
from typing import Any

from rl_core import Algorithm, Policy, PPOConfig
from rl_core.example import Verdict, example_parser, run_example
from rl_core.module import MaskedActorCritic
from rl_multiagent import MultiAgent, OpenSpielEnv, PolicySpec
from rl_multiagent.selfplay import AgainstPool, UniformRandom, action_probabilities, play_match, random_policy

AGENTS = ("player_0", "player_1")
NUM_GAMES = 200


def all_positions(env: OpenSpielEnv) -> dict[str, Any]:
    """Find every position in which somebody is to move, by its text."""
    found: dict[str, Any] = {}
    to_visit = [env.game.new_initial_state()]
    while to_visit:
        state = to_visit.pop()
        if not state.is_terminal() and str(state) not in found:
            found[str(state)] = state
            to_visit += [state.child(move) for move in state.legal_actions()]
    return found


def lowest_return(policy: Policy, side: int) -> float:
    """Work out what a policy's most likely moves get at least, whatever the other side plays."""
    env = OpenSpielEnv("tic_tac_toe")
    positions = all_positions(env)
    seen = [env.observe(state, state.current_player()) for state in positions.values()]
    moves = dict(zip(positions, action_probabilities(policy, seen, explore=False).argmax(1).tolist(), strict=True))
    known: dict[str, float] = {}

    def lowest(state: Any) -> float:
        text = str(state)
        if text not in known:
            if state.is_terminal():
                known[text] = state.returns()[side]
            elif state.current_player() == side:
                known[text] = lowest(state.child(moves[text]))
            else:
                known[text] = min(lowest(state.child(move)) for move in state.legal_actions())
        return known[text]

    return lowest(env.game.new_initial_state())


def is_perfect(algorithm: Algorithm, _: Mapping[str, Any]) -> Verdict:
    """Judge the most likely moves against every play, and in games against random."""
    env, main = OpenSpielEnv("tic_tac_toe"), algorithm.env_runner.policies["main"]
    lowest = [lowest_return(main, side) for side in range(len(AGENTS))]
    random = random_policy(env, AGENTS[0], seed=1)
    scores = play_match(env, main, random, num_games=NUM_GAMES, seed=0, explore=False)
    lost = int((scores == 0).sum())
    words = (
        f"worst result {lowest[0]:+g} as first and {lowest[1]:+g} as second player, {lost} of {NUM_GAMES} games lost"
    )
    return min(lowest) >= 0 and lost == 0, words


parser = example_parser(__doc__, stop_timesteps=1_500_000)

if __name__ == "__main__":
    args = parser.parse_args()
    config = (
        PPOConfig()
        .environment(OpenSpielEnv, env_config={"game": "tic_tac_toe"})
        .env_runners(num_envs_per_env_runner=64)
        .training(train_batch_size_per_learner=2048, minibatch_size=256, num_epochs=6, gamma=1.0)
        .training(lr=((0, 1e-3), (800_000, 1e-4)), entropy_coeff=((0, 0.05), (800_000, 0.005)))
        .rl_module(module_class=MaskedActorCritic, model_config={"fcnet_hiddens": (128, 128)})
        .use(
            MultiAgent(
                policies={"main": PolicySpec(), "random": PolicySpec(module_class=UniformRandom)},
                policy_mapping_fn=AgainstPool(AGENTS, "main", ("main", "random"), (0.7, 0.3)),
                policies_to_train=("main",),
            )
        )
    )
    run_example(config, args, criterion=is_perfect, evaluate_every=20_000)
