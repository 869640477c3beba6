"""Every example must meet its goal on the seeds 0, 1 and 2, judged by separate evaluations: `just learn`.

Where an example has a control, the same script without what it shows, the control must miss that goal on each seed.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("examples/*/*.py"))
RUNS = [
    *SCRIPTS,
    "examples/actions/nested_action_spaces.py --num-agents 2 --stop-reward -200",
    "examples/checkpoints/continue_training_from_checkpoint.py --num-agents 2",
    "examples/connectors/flatten_observations_dict_space.py --num-agents 2 --stop-reward 800",
    "examples/connectors/flatten_observations_dict_space.py --algo impala --stop-reward 400 --stop-timesteps 2000000",
    "examples/connectors/flatten_observations_dict_space.py"
    " --algo impala --num-agents 2 --stop-reward 800 --stop-timesteps 2000000",
    "examples/connectors/mean_std_filtering.py --num-agents 2 --stop-reward -600",
    "examples/connectors/prev_actions_prev_rewards.py --num-agents 2 --stop-reward 400",
    "examples/curiosity/intrinsic_curiosity_model_based_curiosity.py --algo dqn",
    "examples/multi_agent/rock_paper_scissors_heuristic_vs_learned.py --use-lstm",
    "examples/multi_agent/two_step_game_with_grouped_agents.py --algo ppo",
    "examples/multi_agent/two_step_game_with_grouped_agents.py --algo coma",
    "examples/rl_modules/custom_lstm_rl_module.py --num-agents 2 --stop-reward 600",
    "examples/tuned/mujoco_ppo.py --env InvertedDoublePendulum-v5",
    "examples/tuned/mujoco_ppo.py --env Reacher-v5",
    "examples/tuned/mujoco_ppo.py --env Swimmer-v5",
    "examples/tuned/mujoco_ppo.py --env Hopper-v5",
    "examples/tuned/mujoco_ppo.py --env HalfCheetah-v5",
    "examples/tuned/mujoco_ppo.py --env Walker2d-v5",
    "examples/tuned/mujoco_ppo.py --env Humanoid-v5",
]
"""All scripts, and again those that have a goal for another algorithm, env or number of agents."""
CONTROLS = [
    "examples/actions/autoregressive_actions.py --independent-heads",
    "examples/connectors/mean_std_filtering.py --disable-mean-std-filter",
    "examples/curiosity/count_based_curiosity.py --no-curiosity",
    "examples/curiosity/euclidian_distance_based_curiosity.py --no-curiosity",
    "examples/curiosity/intrinsic_curiosity_model_based_curiosity.py --algo ppo --no-curiosity",
    "examples/curiosity/intrinsic_curiosity_model_based_curiosity.py --algo dqn --no-curiosity",
    "examples/learners/ppo_with_custom_loss_fn.py --regularizer-coeff 0",
    "examples/multi_agent/two_step_game_with_grouped_agents.py --algo vdn",
    "examples/multi_agent/rock_paper_scissors_learned_vs_learned.py --entropy-coeff 0",
]
"""Scripts with the flags that take away what they show."""


def run_as_test(run: str, seed: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *run.split(), "--as-test", "--seed", str(seed)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("run", RUNS)
def test_example_meets_its_goal(run: str, seed: int) -> None:
    done = run_as_test(run, seed)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


@pytest.mark.learning
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("run", CONTROLS)
def test_control_of_example_misses_its_goal(run: str, seed: int) -> None:
    done = run_as_test(run, seed)
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "\nnot reached: " in done.stdout, done.stderr[-2000:]  # a crash exits with 1 too
