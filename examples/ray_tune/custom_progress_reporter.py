"""Columns of one's own on the console while trials of Ray Tune run: the return of each of three policies.

Shows: with today's Ray a `progress_reporter` is silently ignored, so the table is printed by a `tune.Callback`, which
gets every result. The figures of a policy are in results as `env_runners/policy_episode_return_mean/<policy>`.
Criterion: evaluation return of 600, the sum of three agents, and the table was shown with a column for each policy.
Command: python examples/ray_tune/custom_progress_reporter.py --as-test --seed 0
Reached: on seeds 0, 1, 2: 1021.6, 787.0, 1216.6 after 15,360, 10,240, 15,360 steps.
"""

from __future__ import annotations

from typing import Any

from rl_core import PPOConfig, tune_trainable
from rl_core.example import example_parser, finish_trials, trials_config, trials_folder, trials_run_config
from rl_multiagent import MultiAgent, clone_agents

POLICIES = ("p0", "p1", "p2")

parser = example_parser(__doc__, env="CartPole-v1", stop_reward=600, stop_iters=60, honours=["--num-samples"])

if __name__ == "__main__":
    args = parser.parse_args()
    from ray import tune

    shown: list[str] = []

    class PolicyTable(tune.Callback):
        """Prints a line for each result: trial, iteration, env steps, and the return of each policy."""

        def setup(self, **_: Any) -> None:
            """Print the head of the table."""
            self._show(f"{'trial':24}{'iteration':>10}{'env steps':>10}", *(f"{policy:>10}" for policy in POLICIES))

        def on_trial_result(
            self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any
        ) -> None:
            """Print a line."""
            returns = [result[f"env_runners/policy_episode_return_mean/{policy}"] for policy in POLICIES]
            start = f"{trial.trial_id:24}{result['training_iteration']:>10}{result['env_steps']:>10,}"
            self._show(start, *(f"{value:>10.1f}" for value in returns))

        def _show(self, *cells: str) -> None:
            shown.append("".join(cells))
            print(shown[-1], flush=True)

    config = (
        PPOConfig()
        .environment(clone_agents(args.env, len(POLICIES)))
        .env_runners(num_envs_per_env_runner=8)
        .training(train_batch_size_per_learner=1024, minibatch_size=128, lr=1e-3, gamma=0.98, lambda_=0.9)
        .evaluation(evaluation_interval=5)
        .use(MultiAgent(policies=POLICIES, policy_mapping_fn={str(i): name for i, name in enumerate(POLICIES)}))
    )

    def table_was_shown(results: Any) -> tuple[bool, str]:
        """A line for each result, and a column for each policy."""
        lines = 1 + sum(result.metrics["training_iteration"] for result in results)
        return len(shown) == lines and all(policy in shown[0] for policy in POLICIES), f"{len(shown)} lines shown"

    with trials_folder(args) as folder:
        tuner = tune.Tuner(
            tune_trainable(trials_config(config, args)),
            tune_config=tune.TuneConfig(num_samples=args.num_samples),
            run_config=trials_run_config(args, folder, callbacks=[PolicyTable()]),
        )
        finish_trials(tuner, args, table_was_shown)
