"""The common flags of the examples, and how a run of one ends."""

import json
import os
import signal
import subprocess
import sys

import pytest

from rl_core import PPOConfig, WandbSink
from rl_core.example import (
    example_parser,
    finish_example,
    one_run,
    run_example,
    train_example,
    trials_config,
    trials_run_config,
)
from rl_core.example.run import with_flags
from rl_core.testing.envs import CountdownEnv

COMMON = """--algo --env --num-env-runners --num-envs-per-env-runner --num-agents --num-learners --num-gpus-per-learner
--num-cpus-per-learner --num-aggregator-actors-per-learner --evaluation-num-env-runners --evaluation-interval
--evaluation-duration --evaluation-duration-unit --evaluation-parallel-to-training --stop-reward --stop-iters
--stop-timesteps --as-test --no-tune --num-samples --max-concurrent-trials --num-cpus --checkpoint-freq
--checkpoint-at-end --output --verbose --log-level --seed --wandb-key --wandb-project --wandb-run-name""".split()


def config():
    return (
        PPOConfig()
        .environment(CountdownEnv)
        .env_runners(num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=16, minibatch_size=16, num_epochs=1)
    )


def parsed(*flags, stop_iters=2, **defaults):
    return example_parser("Shows nothing.", stop_iters=stop_iters, **defaults).parse_args(flags)


def exit_code(ending):
    with pytest.raises(SystemExit) as caught:
        ending()
    return caught.value.code


def test_every_common_flag_is_known_and_explained():
    text = example_parser("Shows nothing.").format_help()
    assert [flag for flag in COMMON if flag not in text] == []
    assert "Shows nothing." in text


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("--num-aggregator-actors-per-learner 1", "batches are made where they are learned from"),
        ("--num-cpus-per-learner 2", "add --num-learners"),
        ("--num-agents 2", "the agents of this script are fixed"),
        ("--num-samples 3", "got '3', expected 1: this script is one run, not a search"),
        ("--max-concurrent-trials 1", "not a search"),
        ("--num-cpus 2", "add --num-env-runners, --num-learners or --evaluation-num-env-runners"),
        ("--num-gpus-per-learner -1", "--num-gpus-per-learner"),
        ("--evaluation-duration-unit seconds", "invalid choice"),
        ("--env CartPole-v1", "has an env of its own"),
        ("--checkpoint-freq 2", "add --output DIR"),
        ("--checkpoint-at-end", "add --output DIR"),
        ("--as-test --evaluation-duration 5", "at least 20 episodes"),
        ("--stop-itres 2", "Did you mean --stop-iters?"),
    ],
)
def test_a_flag_that_cannot_be_honoured_is_refused_with_the_reason(flags, reason, capsys):
    assert exit_code(lambda: parsed(*flags.split())) == 2
    assert reason in capsys.readouterr().err


def test_defaults_of_a_script_are_shown_and_agents_by_default_are_needed(capsys):
    own = example_parser("Test.", env="CartPole-v1", honours=["--num-agents"])
    own.set_defaults(num_agents=2, evaluation_duration=100)
    words = " ".join(own.format_help().split())
    assert "default: 100" in words
    assert "default: 20" not in words
    assert "default: 2 " in words
    assert own.parse_args([]).num_agents == 2
    with pytest.raises(SystemExit):
        own.parse_args(["--num-agents", "0"])
    assert "--num-agents: got 0, expected at least 1" in capsys.readouterr().err


def test_flags_reach_the_config_of_trials_and_what_ends_them(tmp_path):
    pytest.importorskip("ray")
    given = ["--num-envs-per-env-runner", "3", "--seed", "7", "--evaluation-interval", "2", "--checkpoint-at-end"]
    args = example_parser("Test.", env="CartPole-v1", stop_reward=5.0, stop_iters=9).parse_args(
        [*given, "--checkpoint-freq", "4", "--output", str(tmp_path)]
    )
    made = trials_config(PPOConfig().environment(args.env), args)
    assert made.env_runners.settings.num_envs_per_env_runner == 3
    assert made.debugging.settings.seed == 7
    assert made.evaluation.settings.evaluation_interval == 2
    run_config = trials_run_config(args, str(tmp_path))
    assert run_config.stop == {"evaluation/episode_return_mean": 5.0, "training_iteration": 9}
    assert run_config.checkpoint_config.checkpoint_frequency == 4
    assert run_config.checkpoint_config.checkpoint_at_end


def test_neutral_values_and_no_tune_are_accepted():
    flags = "--num-env-runners 0 --num-agents 0 --num-learners 0 --num-samples 1 --no-tune --num-gpus-per-learner 0"
    assert parsed(*flags.split()).num_agents == 0


def test_flags_of_learners_reach_the_config():
    args = parsed("--num-learners", "2", "--num-cpus-per-learner", "3", "--num-gpus-per-learner", "0.25")
    settings = with_flags(config(), args).learners.settings
    assert (settings.num_learners, settings.num_cpus_per_learner, settings.num_gpus_per_learner) == (2, 3, 0.25)
    own = config().learners(num_learners=2)
    assert with_flags(own, parsed()).learners.settings.num_learners == 2


def test_a_script_may_honour_a_flag_itself():
    assert parsed("--num-agents", "2", honours=["--num-agents"]).num_agents == 2
    assert parsed("--num-samples", "4", honours=["--num-samples"]).num_samples == 4
    with pytest.raises(ValueError, match="--num-agent'"):
        example_parser("", honours=["--num-agent"])


def test_flags_of_evaluation_reach_the_config():
    args = parsed("--evaluation-num-env-runners", "1", "--evaluation-parallel-to-training")
    settings = with_flags(config(), args).evaluation.settings
    assert settings.evaluation_num_env_runners == 1
    assert settings.evaluation_parallel_to_training
    own = config().evaluation(evaluation_num_env_runners=2, evaluation_parallel_to_training=True)
    settings = with_flags(own, parsed("--evaluation-duration", "auto")).evaluation.settings
    assert settings.evaluation_num_env_runners == 2
    assert settings.evaluation_duration == "auto"
    args = parsed("--evaluation-duration", "1011", "--evaluation-duration-unit", "timesteps")
    assert with_flags(config(), args).evaluation.settings.evaluation_duration_unit == "timesteps"


def test_evaluation_beside_training_happens_there_unless_told_otherwise():
    flags = ("--evaluation-num-env-runners", "1", "--evaluation-parallel-to-training")
    assert with_flags(config(), parsed(*flags)).evaluation.settings.evaluation_interval == 1
    own = config().evaluation(evaluation_interval=3)
    assert with_flags(own, parsed(*flags)).evaluation.settings.evaluation_interval == 3
    given = parsed(*flags, "--evaluation-interval", "0")
    assert with_flags(config(), given).evaluation.settings.evaluation_interval == 0


def test_an_env_that_cannot_be_made_ends_a_script_with_one_line(capsys):
    assert exit_code(lambda: train_example(config().environment("NoSuchEnv-v0"), parsed())) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_algo_names_what_the_script_trains(capsys):
    assert parsed(algorithms=["PPO", "DQN"]).algo == "PPO"
    assert exit_code(lambda: parsed("--algo", "SAC", algorithms=["PPO", "DQN"])) == 2
    assert exit_code(lambda: train_example(config(), parsed("--algo", "DQN"))) == 2
    assert "--algo: got 'DQN', but this script trains 'ppo'" in capsys.readouterr().err
    train_example(config(), parsed("--algo", "PPO")).algorithm.stop()


def test_training_stops_as_soon_as_the_evaluation_reaches_the_goal(capsys):
    args = parsed("--evaluation-interval", "2", "--as-test", stop_reward=5.0, stop_iters=10)
    assert exit_code(lambda: run_example(config(), args)) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("reached: return 5.0 over 20 episodes, goal 5; 32 env steps")


def test_as_test_exits_with_1_and_the_figure_when_the_goal_is_missed(capsys):
    args = parsed("--as-test", stop_reward=6.0)
    assert exit_code(lambda: run_example(config(), args)) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("not reached: return 5.0 over 20 episodes, goal 6")


def test_a_missed_goal_is_no_failure_without_as_test():
    assert exit_code(lambda: run_example(config(), parsed(stop_reward=6.0))) == 0


@pytest.mark.parametrize(("holds", "goal", "code"), [(True, 5.0, 0), (False, 5.0, 1), (True, 6.0, 1), (True, None, 0)])
def test_goal_and_criterion_must_both_hold(holds, goal, code, capsys):
    def criterion(algorithm, result):
        return holds, f"{result['evaluation/num_episodes']:g} episodes at {algorithm.env_steps} steps"

    args = parsed("--as-test", stop_reward=goal)
    assert exit_code(lambda: run_example(config(), args, criterion=criterion)) == code
    assert "20 episodes at 32 steps" in capsys.readouterr().out.splitlines()[-1]


def test_a_script_can_go_on_with_the_algorithm_and_add_checks(capsys):
    given = config()
    outcome = train_example(given, parsed("--as-test", "--seed", "3", stop_reward=5.0))
    assert (outcome.reached, outcome.evaluation_return, outcome.env_steps) == (True, 5.0, 32)
    assert outcome.checkpoint is None
    assert outcome.algorithm.config.debugging.seed == 3
    assert given.debugging.seed == 0, "the config of the script is not changed"
    assert outcome.algorithm.evaluate(num_episodes=1)["evaluation/episode_return_mean"] == 5.0
    assert exit_code(lambda: finish_example(outcome, parsed("--as-test"), (False, "0 of 3 wins"))) == 1
    assert "not reached: return 5.0 over 20 episodes, goal 5; 0 of 3 wins" in capsys.readouterr().out


def test_a_script_can_prepare_the_algorithm_before_it_is_trained():
    seen = []
    train_example(
        config(), parsed(stop_iters=1), prepare=lambda algorithm: seen.append(algorithm.env_steps)
    ).algorithm.stop()
    assert seen == [0]


def test_as_test_without_anything_to_judge_by_is_an_error():
    args = parsed("--as-test")
    with pytest.raises(ValueError, match="there is no criterion"):
        run_example(config(), args)


def test_evaluations_come_every_5000_steps_where_nobody_set_an_interval(capsys):
    config_ = config().training(train_batch_size_per_learner=2000, minibatch_size=2000)
    train_example(config_, parsed(stop_iters=7)).algorithm.stop()
    steps = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert steps == ["6,000", "12,000", "14,000"]


def test_a_script_may_ask_for_evaluations_at_shorter_intervals(capsys):
    train_example(config(), parsed(stop_iters=5), evaluate_every=32).algorithm.stop()
    steps = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert steps == ["32", "64", "80"]
    with pytest.raises(ValueError, match="evaluate_every: got 0"):
        train_example(config(), parsed(), evaluate_every=0)


def test_interval_0_evaluates_only_at_the_end(capsys):
    config_ = config().training(train_batch_size_per_learner=6000, minibatch_size=6000)
    train_example(config_, parsed("--evaluation-interval", "0", stop_iters=3)).algorithm.stop()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]] == ["18,000"]


def test_verbose_0_prints_nothing_but_the_last_line(capsys):
    exit_code(lambda: run_example(config(), parsed("--verbose", "0")))
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_nothing_is_written_without_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exit_code(lambda: run_example(config(), parsed()))
    assert list(tmp_path.iterdir()) == []


def test_output_makes_a_run_folder(tmp_path, capsys):
    path = tmp_path / "run"
    flags = ("--output", str(path), "--checkpoint-freq", "2")
    outcome = train_example(config(), parsed(*flags, stop_reward=6.0, stop_iters=5))
    outcome.algorithm.stop()
    assert outcome.checkpoint == path / "checkpoints" / "iteration_000005"
    names = sorted(checkpoint.name for checkpoint in (path / "checkpoints").iterdir())
    assert names == ["iteration_000002", "iteration_000004", "iteration_000005"]
    assert len((path / "metrics.jsonl").read_text().splitlines()) == 5
    assert (path / "report.html").exists()
    record = json.loads((path / "run.json").read_text())
    assert (record["status"], record["env"], record["outcome"]["return"]) == ("limit", "CountdownEnv", 5.0)
    assert exit_code(lambda: train_example(config(), parsed(*flags))) == 2
    assert "exists already" in capsys.readouterr().err


def test_several_runs_have_folders_of_their_own_and_are_all_ended_by_one_interrupt(tmp_path, capsys):
    args = parsed("--output", str(tmp_path))
    train_example(config(), one_run(args, "first")).algorithm.stop()
    assert (tmp_path / "first/metrics.jsonl").exists()

    def interrupt(algorithm, result):
        if algorithm.iteration == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return False, "not yet"

    second = one_run(args, "second", stop_iters=50)
    assert exit_code(lambda: train_example(config(), second, criterion=interrupt, evaluate_every=1)) == 130
    assert capsys.readouterr().out.splitlines()[-1].startswith("interrupted: ")
    assert len((tmp_path / "second/metrics.jsonl").read_text().splitlines()) < 4


def test_a_run_that_fails_says_so_in_its_folder(tmp_path):
    def criterion(algorithm, result):
        raise RuntimeError("the judge is ill")

    with pytest.raises(RuntimeError, match="ill"):
        train_example(config(), parsed("--output", str(tmp_path / "run")), criterion=criterion)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["error"] == "RuntimeError: the judge is ill"


def test_parsing_imports_no_torch():
    code = "import sys, rl_core.example as e; e.example_parser('').parse_args([]); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def test_flags_of_wandb_make_a_sink_and_keep_the_key_out_of_the_config(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "old")
    flags = ["--wandb-project", "p", "--wandb-run-name", "n", "--wandb-key", "secret"]
    made = with_flags(config(), parsed(*flags))
    assert made.reporting.sinks == (WandbSink(project="p", name="n"),)
    assert os.environ["WANDB_API_KEY"] == "secret"
    assert "secret" not in json.dumps(made.to_dict())
    assert with_flags(config(), parsed()).reporting.sinks == ()
