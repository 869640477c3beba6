"""A policy that learns to beat two that play rock, paper, scissors by rules.

Shows: rule policies written as modules without parameters, one of which draws its first move in evaluation too
(`always_explores`); a mapping function that says who the opponent of each episode is; `--use-lstm` gives the learner a
memory. Needs pip install "pettingzoo[classic]".
Criterion: PettingZoo's rps_v2, 15 moves of +1, -1 or 0, as many games against AlwaysSame as against BeatLast. Within
200,000 env steps the learned policy's evaluation return over 200 games is 6.5; with `--use-lstm` 7.2. Who sees only the
opponent's last move can get 7 at most (all 14 moves after the first against AlwaysSame, nothing against BeatLast).
Command: python examples/multi_agent/rock_paper_scissors_heuristic_vs_learned.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 6.65, 6.74, 6.83 after 11,520 steps (6 to 22 s); with `--use-lstm` 8.79, 9.27, 8.85 after
17,280, 23,040, 17,280 (15 to 42 s, machine busy).
"""

from collections.abc import Mapping
from typing import Any

import torch
from pettingzoo.classic.rps.rps import parallel_env
from torch import Tensor

from rl_core import Algorithm, PPOConfig, RLModule
from rl_core.example import Verdict, example_parser, run_example
from rl_multiagent import EpisodeInfo, MultiAgent, PolicySpec

NO_MOVE_YET = 3
"""What is seen before the first move, in place of the opponent's last one."""


def make_env(config: Mapping[str, Any]) -> Any:
    """Make the game; both players move at the same time."""
    return parallel_env(**config)


class Rule(RLModule):
    """The base of policies that play by rules, which see the opponent's last move as it is."""

    flatten_observations = False

    def __init__(self, observation_space: Any, action_space: Any, **model_config: Any) -> None:
        super().__init__(observation_space, action_space)

    def forward_value(self, obs: Tensor, state: Any = ()) -> Tensor:
        """Return zeros: it does not learn."""
        return torch.zeros(obs.shape)


class AlwaysSame(Rule):
    """Plays one move from beginning to end."""

    def __init__(self, observation_space: Any, action_space: Any, *, move: int) -> None:
        super().__init__(observation_space, action_space)
        self.move = move

    def forward_policy(self, obs: Tensor, state: Any = ()) -> tuple[Tensor, Any]:
        """Return the logits `[..., 3]`."""
        return certain(torch.full_like(obs, self.move)), state


class BeatLast(Rule):
    """Plays what beats the opponent's last move; draws its first one."""

    always_explores = True

    def forward_policy(self, obs: Tensor, state: Any = ()) -> tuple[Tensor, Any]:
        """Return the logits `[..., 3]`."""
        return torch.where((obs == NO_MOVE_YET).unsqueeze(-1), 0.0, certain((obs + 1) % 3)), state


def certain(move: Tensor) -> Tensor:
    """Make logits of which a move is always drawn."""
    return 1e9 * (torch.nn.functional.one_hot(move, 3) - 1.0)


RULES = {
    **{
        name: PolicySpec(module_class=AlwaysSame, settings={"rl_module.model_config": {"move": move}})
        for move, name in enumerate(("rock", "paper", "scissors"))
    },
    "beat_last": PolicySpec(module_class=BeatLast),
}
TURNS = ("rock", "beat_last", "paper", "beat_last", "scissors", "beat_last")
"""Opponents of one game after the other."""


def match(agent: str, episode: EpisodeInfo) -> str:
    """Let `learned` play against the rules in turn."""
    return "learned" if agent == "player_0" else TURNS[(episode.env_slot + episode.number) % len(TURNS)]


parser = example_parser(__doc__, stop_timesteps=200_000)
parser.set_defaults(evaluation_duration=200)
parser.add_argument("--use-lstm", action="store_true", help="the learned policy remembers the whole game")
parser.add_argument("--stop-reward-learned", type=float, metavar="R", help="default: 6.5, with --use-lstm 7.2")

if __name__ == "__main__":
    args = parser.parse_args()
    goal = args.stop_reward_learned
    if goal is None:
        goal = 7.2 if args.use_lstm else 6.5
    config = (
        PPOConfig()
        .environment(make_env)
        .env_runners(num_envs_per_env_runner=32)
        .training(train_batch_size_per_learner=960, minibatch_size=240, lr=2e-3, gamma=0.9, lambda_=0.9)
        .rl_module(model_config={"use_lstm": args.use_lstm, "lstm_cell_size": 64, "max_seq_len": 15})
        .use(MultiAgent(policies={"learned": PolicySpec(), **RULES}, policy_mapping_fn=match))
    )

    def learned(_: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """Judge the learned policy alone."""
        value = result["evaluation/policy_episode_return_mean/learned"]
        return value >= goal, f"learned policy {value:.2f}, goal {goal:g}"

    run_example(config, args, criterion=learned)
