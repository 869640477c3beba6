"""A manager and three experts that act at clocks of their own, in six rooms.

Shows: agents with other spaces and other clocks in one env. The manager names a cell and an expert; the expert walks
until it is there or its 40 steps are used up, and then the manager is asked again. Transitions of each go from one of
its own decisions to the next, whatever the others do in between, and rewards that come in between are added up. The
manager is paid -0.01 for each step that is walked and 10 for the goal, which ends the episode. An expert is paid 1 for
the cell it was sent to, and 0.1 for each step nearer, through walls or not: doors are the manager's to find.
In the large map the goal is three doors away and an episode is cut after 500 steps: 0.3 % of random walks come there.
Criterion: the manager's evaluation return of 7 within 4,000,000 env steps.
Command: python examples/hierarchical/hierarchical_training.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 9.18, 8.36, 8.27 after 630,784, 573,440, 401,408 steps (75 to 87 s on two busy cores).
One agent that walks by itself (`--flat`) gets there as well: 9.20 on seed 0 after 630,784 steps. Larger rooms and
shorter episodes do not make it fail (seed 0): 9.35 after 1,318,912 in rooms of 13, 8.75 after 2,121,728 there with 200
steps, 8.29 after 229,376 in rooms of 15 with 200. Of walks that go right and down with 35 % each 24 % come to the goal.
"""

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Discrete, MultiDiscrete

from rl_core import Algorithm, PPOConfig
from rl_core.cli.options import positive_int
from rl_core.example import Verdict, example_parser, run_example
from rl_multiagent import MultiAgent, MultiAgentEnv, PolicySpec

MOVES = ((-1, 0), (0, 1), (1, 0), (0, -1))
ROOM_SIZES = {"small": 3, "medium": 5, "large": 9}
EXPERTS = ("expert_0", "expert_1", "expert_2")


class SixRooms:
    """Two rows of three square rooms with doors between neighbours; the goal is in the last corner."""

    def __init__(self, room_size: int) -> None:
        """Build the walls.

        Args:
            room_size: Cells along the side of a room.
        """
        pitch = room_size + 1
        self.free = np.ones((2 * pitch + 1, 3 * pitch + 1), bool)
        self.free[::pitch] = self.free[:, ::pitch] = False
        door = room_size // 2
        for column in (pitch, 2 * pitch):  # each door at another place of its wall
            self.free[1 + door - 1, column] = True
            self.free[pitch + 1 + door + 1, column] = True
        for place, column in enumerate((1, 1 + pitch, 1 + 2 * pitch)):
            self.free[pitch, column + (place + door) % room_size] = True
        self.starts = np.argwhere(self.free[:pitch, :pitch])
        self.goal = (self.free.shape[0] - 2, self.free.shape[1] - 2)
        self.at = self.goal

    def reset(self, rng: np.random.Generator) -> None:
        """Stand somewhere in the first room."""
        self.at = tuple(map(int, rng.choice(self.starts)))

    def move(self, action: int) -> float:
        """Take a step, against a wall without effect; return the reward."""
        row, column = self.at[0] + MOVES[action][0], self.at[1] + MOVES[action][1]
        if self.free[row, column]:
            self.at = (row, column)
        return 10.0 - 0.01 if self.at == self.goal else -0.01


class FlatSixRooms(gymnasium.Env):
    """One agent walks by itself."""

    def __init__(self, room_size: int, time_limit: int) -> None:
        self.world, self.time, self.time_limit = SixRooms(room_size), 0, time_limit
        self.observation_space, self.action_space = MultiDiscrete(self.world.free.shape), Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.time = 0
        self.world.reset(self.np_random)
        return np.array(self.world.at), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        reward = self.world.move(action)
        self.time += 1
        return np.array(self.world.at), reward, self.world.at == self.world.goal, self.time == self.time_limit, {}


class ManagedSixRooms(MultiAgentEnv):
    """A manager sends experts to cells."""

    possible_agents = ("manager", *EXPERTS)

    def __init__(self, room_size: int, time_limit: int, max_steps_low_level: int) -> None:
        self.world, self.rng = SixRooms(room_size), np.random.default_rng()
        self.time, self.time_limit, self.max_steps_low_level = 0, time_limit, max_steps_low_level
        shape = self.world.free.shape
        self.observation_spaces = dict.fromkeys(EXPERTS, MultiDiscrete([*shape, *shape]))  # where it is and is to go
        self.observation_spaces["manager"] = MultiDiscrete(shape)
        self.action_spaces = dict.fromkeys(EXPERTS, Discrete(4))
        self.action_spaces["manager"] = MultiDiscrete([shape[0] - 2, shape[1] - 2, len(EXPERTS)])
        self.target, self.steps_left = self.world.goal, 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Begin an episode: the manager is asked."""
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.time = 0
        self.world.reset(self.rng)
        return {"manager": np.array(self.world.at)}, {}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        """Let the manager choose, or an expert walk."""
        ((agent, action),) = actions.items()
        if agent == "manager":
            row, column, expert = map(int, action)
            self.target, self.steps_left = (row + 1, column + 1), self.max_steps_low_level
            return {EXPERTS[expert]: self._expert_obs()}, {}, {}, {}, {}
        before = self._distance()
        rewards = {"manager": self.world.move(action)}
        rewards[agent] = 0.1 * (before - self._distance())
        self.time += 1
        self.steps_left -= 1
        there = self.world.at == self.target
        if there:
            rewards[agent] += 1.0
        out_of_time = self.time == self.time_limit
        ends = {"__all__": self.world.at == self.world.goal, "manager": out_of_time}, {"__all__": out_of_time}
        obs = {"manager": np.array(self.world.at)} if there or not self.steps_left else {agent: self._expert_obs()}
        return obs, rewards, *ends, {}

    def _distance(self) -> int:
        """Rows and columns between the expert and its target."""
        return sum(abs(here - there) for here, there in zip(self.world.at, self.target, strict=True))

    def _expert_obs(self) -> np.ndarray:
        """Where the expert is and is to go."""
        return np.array([*self.world.at, *self.target])


parser = example_parser(__doc__, stop_timesteps=4_000_000)
parser.add_argument("--flat", action="store_true", help="for comparison: one agent that walks by itself")
parser.add_argument("--map", choices=ROOM_SIZES, default="large", help="how large the rooms are; default: large")
parser.add_argument("--time-limit", type=positive_int, default=500, metavar="N", help="steps of an episode; 500")
parser.add_argument("--max-steps-low-level", type=positive_int, default=40, metavar="N", help="of an expert; 40")
parser.add_argument("--stop-reward-manager", type=float, default=7.0, metavar="R", help="default: 7")

if __name__ == "__main__":
    args = parser.parse_args()
    settings = {"room_size": ROOM_SIZES[args.map], "time_limit": args.time_limit}
    config = (
        PPOConfig()
        .env_runners(num_envs_per_env_runner=64)
        .training(train_batch_size_per_learner=8192, minibatch_size=512, num_epochs=5, lr=1e-3, lambda_=0.9)
        .training(gamma=0.99, entropy_coeff=0.01)
        .rl_module(model_config={"fcnet_hiddens": [128, 128]})
    )
    if args.flat:
        config.environment(FlatSixRooms, env_config=settings)
    else:
        settings["max_steps_low_level"] = args.max_steps_low_level
        # With a discount for each of its decisions, short errands would put costs off: the manager has none, and for it
        # the time limit is an end.
        manager = {"training.minibatch_size": 64, "training.lr": 3e-4, "training.entropy_coeff": 0.05}
        manager |= {"training.gamma": 1.0, "training.lambda_": 0.95}
        policies = {"manager": PolicySpec(settings=manager)}
        policies |= dict.fromkeys(EXPERTS, PolicySpec(settings={"training.gamma": 0.95}))
        config.environment(ManagedSixRooms, env_config=settings).use(MultiAgent(policies=policies))
    key = "episode_return_mean" if args.flat else "agent_episode_return_mean/manager"

    def manager_return(_: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """Judge what the env paid for the way to the goal."""
        value = result[f"evaluation/{key}"]
        return value >= args.stop_reward_manager, f"return {value:.2f}, goal {args.stop_reward_manager:g}"

    run_example(config, args, criterion=manager_return, evaluate_every=50_000)
