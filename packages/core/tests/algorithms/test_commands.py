"""The `rl` command trains and evaluates with every algorithm."""

import json
from pathlib import Path

import pytest

from rl_core.cli import main
from rl_core.runs.metrics_file import read_rows

OFF_POLICY = [
    "--set=training.num_steps_sampled_before_learning_starts=50",
    "--set=training.train_batch_size_per_learner=16",
    "--set=reporting.min_sample_timesteps_per_iteration=100",
]
ON_POLICY = ["--set=reporting.min_sample_timesteps_per_iteration=100"]
SMALL = ["--set=rl_module.model_config.fcnet_hiddens=[16]", "--set=evaluation.evaluation_duration=2"]
RUNS = [
    ("a2c", "CartPole-v1", ON_POLICY),
    ("dqn", "CartPole-v1", OFF_POLICY),
    ("sac", "Pendulum-v1", OFF_POLICY),
    ("td3", "Pendulum-v1", OFF_POLICY),
    ("tqc", "Pendulum-v1", OFF_POLICY),
]


@pytest.fixture(autouse=True)
def _empty_folder(monkeypatch, tmp_path):
    """Run in an empty folder, and without the process that draws pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("rl_core.runs.loop.PictureProcess", _NoPicture)


class _NoPicture:
    def begin(self, curve, path):
        pass

    def wait(self):
        return None

    def close(self):
        pass


def run(capsys, *arguments):
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize(("algorithm", "env", "settings"), RUNS)
def test_train_resume_and_evaluate(capsys, algorithm, env, settings):
    arguments = ["--stop-iters=2", "--run-dir=run", "--json", *settings, *SMALL]
    result = run(capsys, "train", algorithm, env, *arguments)
    assert (result["outcome"], result["stopped_by"], result["algorithm"]) == ("finished", "iterations", algorithm)
    rows = list(read_rows(Path("run") / "metrics.jsonl"))
    assert [row["training_iteration"] for row in rows] == [1, 2]
    if settings is OFF_POLICY:
        assert rows[-1]["learner/default/num_gradient_steps"] > 0
        assert 200 <= rows[-1]["learner/default/replay_size"] < 250
    assert run(capsys, "resume", "run", "--stop-iters=3", "--json")["outcome"] == "finished"
    rows = list(read_rows(Path("run") / "metrics.jsonl"))
    assert [row["training_iteration"] for row in rows] == [1, 2, 3]
    evaluated = run(capsys, "evaluate", "run", "--episodes=3", "--json")
    assert (evaluated["episodes"], evaluated["env"]) == (3, env)
    assert evaluated["env_steps"] == rows[-1]["env_steps"]


def test_evaluate_a_checkpoint_of_dqn_without_exploration(capsys):
    run(capsys, "train", "dqn", "CartPole-v1", "--stop-iters=2", "--run-dir=run", "--json", *OFF_POLICY, *SMALL)
    checkpoint = max((Path("run") / "checkpoints").iterdir())
    greedy, drawn = (
        run(capsys, "evaluate", checkpoint, "--episodes=3", *explore, "--json") for explore in (["--no-explore"], [])
    )
    assert greedy["checkpoint"] == drawn["checkpoint"] == str(checkpoint)
    assert greedy["return"] != drawn["return"], "epsilon is still near 1"


def test_a_wrong_kind_of_env_is_an_error_of_one_screen(capsys):
    assert main(["train", "dqn", "Pendulum-v1"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "Algorithms that can: a2c, appo, impala, ppo, sac, td3, tqc" in err
