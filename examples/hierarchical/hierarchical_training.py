"""A manager and three experts that act at clocks of their own, in six rooms.

Shows: agents with other spaces and other clocks in one env. The manager names a cell and an expert; the expert walks
until it is there or its 40 steps are used up, and then the manager is asked again. Transitions of each go from one of
its own decisions to the next, whatever the others do in between, and rewards that come in between are added up. The
manager is paid -0.01 for each step that is walked and 10 for the goal, which ends the episode. An expert is paid 1 for
the cell it was sent to, and 0.1 for each step nearer, by the way through the doors: that way is what experts learn, and
where to go is what the manager learns.
In the large map the way winds through all six rooms of 9 by 9 cells, 64 steps on average, and an episode is cut after
200: none of 100,000 random walks came to the goal, nor of as many that repeat the last step half of the time.
Criterion: the manager's evaluation return of 7 within 4,000,000 env steps. Control: with `--flat`, one agent that walks
by itself for the manager's pay, and without what experts are paid, it is not reached in as many.
Command: python examples/hierarchical/hierarchical_training.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 7.65, 8.27, 8.28 after 3,088,384, 2,822,144, 2,289,664 steps (265 to 380 s, the machine
shared). With `--flat`: -2.00 on each after 4,001,792. In smaller rooms the control comes to the goal as well: rooms of
5 by 5: 8.46 on seed 0 after 532,480 steps; of 7 by 7: 9.46 on seed 2 after 1,384,448, but not on seeds 0 and 1.
"""

import functools
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
    """Two rows of three square rooms, each with a door to the next on a way that winds down, up and down again.

    It begins anywhere in the first room, and the goal is in the far corner of the last.
    """

    def __init__(self, room_size: int) -> None:
        """Build the walls.

        Args:
            room_size: Cells along the side of a room.
        """
        pitch = room_size + 1
        self.free = np.ones((2 * pitch + 1, 3 * pitch + 1), bool)
        self.free[::pitch] = self.free[:, ::pitch] = False
        door = room_size // 2
        self.free[pitch + 1 + door + 1, pitch] = self.free[1 + door - 1, 2 * pitch] = True
        for place, column in enumerate((1, 1 + pitch, 1 + 2 * pitch)):  # each door at another place of its wall
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


@functools.cache
def steps_to(target: tuple[int, int], room_size: int) -> np.ndarray:
    """Count the steps from each cell to a target, through the doors; 0 where there is no way."""
    free = SixRooms(room_size).free
    steps, count, front, found = np.zeros(free.shape, int), 0, {target}, {target}
    while front:
        count += 1
        around = {(row + down, column + right) for row, column in front for down, right in MOVES}
        front = {cell for cell in around - found if free[cell]}
        found |= front
        for cell in front:
            steps[cell] = count
    return steps


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
        self.world, self.room_size, self.rng = SixRooms(room_size), room_size, np.random.default_rng()
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
        """Steps between the expert and its target."""
        return int(steps_to(self.target, self.room_size)[self.world.at])

    def _expert_obs(self) -> np.ndarray:
        """Where the expert is and is to go."""
        return np.array([*self.world.at, *self.target])


parser = example_parser(__doc__, stop_timesteps=4_000_000)
parser.add_argument("--flat", action="store_true", help="for comparison: one agent that walks by itself")
parser.add_argument("--map", choices=ROOM_SIZES, default="large", help="how large the rooms are; default: large")
parser.add_argument("--time-limit", type=positive_int, default=200, metavar="N", help="steps of an episode; 200")
parser.add_argument("--max-steps-low-level", type=positive_int, default=40, metavar="N", help="of an expert; 40")
parser.add_argument("--stop-reward-manager", type=float, default=7.0, metavar="R", help="default: 7")

if __name__ == "__main__":
    args = parser.parse_args()
    settings = {"room_size": ROOM_SIZES[args.map], "time_limit": args.time_limit}
    config = (
        PPOConfig()
        .env_runners(num_envs_per_env_runner=64)
        .training(train_batch_size_per_learner=4096, minibatch_size=256, num_epochs=5, lr=1e-3, lambda_=0.9)
        .training(gamma=0.99, entropy_coeff=0.01)
        .rl_module(model_config={"fcnet_hiddens": [128, 128]})
    )
    if args.flat:
        config.environment(FlatSixRooms, env_config=settings)
    else:
        settings["max_steps_low_level"] = args.max_steps_low_level
        # With a discount for each of its decisions, short errands would put costs off: the manager has none, and for it
        # the time limit is an end. It has to stay curious until experts get where they are sent.
        manager = {"training.minibatch_size": 64, "training.lr": 3e-4, "training.gamma": 1.0, "training.lambda_": 0.95}
        manager["training.entropy_coeff"] = [[0, 0.3], [700_000, 0.02]]
        # Without much entropy an expert that is sure of a step into a wall stays there for the rest of its errand.
        expert = {"training.lr": 2e-3, "training.gamma": 0.8, "training.entropy_coeff": [[0, 0.1], [700_000, 0.02]]}
        policies = {"manager": PolicySpec(settings=manager)}
        policies |= dict.fromkeys(EXPERTS, PolicySpec(settings=expert))
        config.environment(ManagedSixRooms, env_config=settings).use(MultiAgent(policies=policies))
    key = "episode_return_mean" if args.flat else "agent_episode_return_mean/manager"

    def manager_return(_: Algorithm, result: Mapping[str, Any]) -> Verdict:
        """Judge what the env paid for the way to the goal."""
        value = result[f"evaluation/{key}"]
        return value >= args.stop_reward_manager, f"return {value:.2f}, goal {args.stop_reward_manager:g}"

    run_example(config, args, criterion=manager_return, evaluate_every=50_000)
