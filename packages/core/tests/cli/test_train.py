import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rl_core import Algorithm, AlgorithmConfig
from rl_core.errors import NonFiniteError
from rl_core.runs.metrics_file import read_rows


def rows_of(run):
    return list(read_rows(Path(run) / "metrics.jsonl"))


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "rl_core.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def wait_for(condition, timeout_s=600):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_run_folder_holds_what_it_promises(trained):
    folder = Path(trained)
    names = {path.name for path in folder.iterdir()}
    with_extra = {"learning_curve.png"} if importlib.util.find_spec("matplotlib") else set()
    assert names - with_extra == {
        "run.json", "config.json", "metrics.jsonl", "tensorboard", "checkpoints", "report.html"
    }  # fmt: skip
    assert with_extra <= names
    config = json.loads((folder / "config.json").read_text())
    assert config["sections"]["training"]["minibatch_size"] == 16
    assert [row["training_iteration"] for row in rows_of(trained)] == [1, 2, 3, 4]
    for picture in with_extra:
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    checkpoints = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert checkpoints == ["iteration_000002", "iteration_000003", "iteration_000004"], "num_to_keep is 3"


def test_last_line_names_outcome_return_steps_and_seconds(rl, small):
    code, out, _ = rl("train", "ppo", "Test/CountdownEnv-v0", "--stop-reward", 5, *small)
    assert code == 0
    last = out.splitlines()[-1]
    assert last.startswith("reached stop reward 5: return 5.0 (3 evaluation episodes)")
    assert "env steps" in last
    assert last.endswith(" s")


def test_limit_before_stop_reward_exits_3(rl, small):
    code, out, _ = rl("train", "ppo", "Test/CountdownEnv-v0", "--stop-reward", 6, "--stop-iters", 2, *small)
    assert code == 3
    assert out.splitlines()[-1].startswith("limit first: iterations used up before stop reward 6: return 5.0")


@pytest.mark.parametrize(
    ("option", "value", "stopped_by"),
    [("--stop-iters", "2", "iterations"), ("--stop-timesteps", "60", "timesteps"), ("--stop-time", "1", "time")],
)
def test_each_limit_stops_with_a_final_evaluation(rl, small, option, value, stopped_by):
    code, out, _ = rl("train", "ppo", "CartPole-v1", option, value, "--json", *small)
    result = json.loads(out)
    assert code == 0
    assert (result["outcome"], result["stopped_by"]) == ("finished", stopped_by)
    assert result["return"] == rows_of(result["run"])[-1]["evaluation/episode_return_mean"]
    if stopped_by == "timesteps":
        assert result["env_steps"] == 64


def test_json_prints_one_object_and_nothing_else(rl, small):
    code, out, err = rl("train", "ppo", "Test/CountdownEnv-v0", "--stop-reward", 5, "--seed", 7, "--json", *small)
    assert code == 0
    result = json.loads(out)
    expected = {"outcome": "reached", "return": 5.0, "algorithm": "ppo", "env": "Test/CountdownEnv-v0", "seed": 7}
    assert result.items() >= expected.items()
    assert result["env_steps"] > 0
    assert result["seconds"] > 0
    assert "ppo on Test/CountdownEnv-v0, seed 7" in err


def test_stop_reward_is_judged_on_evaluation_not_on_training(rl, small, monkeypatch):
    train = Algorithm.train

    def flattering(self):
        return train(self) | {"env_runners/episode_return_mean": 1e9}

    monkeypatch.setattr(Algorithm, "train", flattering)
    code, *_ = rl("train", "ppo", "Test/CountdownEnv-v0", "--stop-reward", 6, "--stop-iters", 2, *small)
    assert code == 3


def test_evaluation_interval_is_set_only_where_the_user_did_not(rl, small):
    rl("train", "ppo", "CartPole-v1", "--stop-iters", 1, "--run-dir", "a", *small)
    config = json.loads(Path("a/config.json").read_text())
    assert config["sections"]["evaluation"]["evaluation_interval"] == round(5000 / 32)
    rl(
        "train",
        "ppo",
        "CartPole-v1",
        "--stop-iters",
        3,
        "--run-dir",
        "b",
        *small,
        "--set",
        "evaluation.evaluation_interval=0",
    )
    assert [math.isnan(row["evaluation/num_episodes"] or math.nan) for row in rows_of("b")] == [True, True, False]


def test_default_run_folders_are_numbered(rl, small):
    for number in (1, 2):
        code, out, _ = rl("train", "ppo", "CartPole-v1", "--stop-iters", 1, "--json", *small)
        assert code == 0
        assert json.loads(out)["run"] == f"runs/ppo-CartPole-v1-{number}"


def test_same_seed_gives_the_same_run(rl, small):
    for name in ("a", "b"):
        rl("train", "ppo", "CartPole-v1", "--stop-iters", 3, "--seed", 5, "--run-dir", name, *small)
    assert untimed(rows_of("a")) == untimed(rows_of("b"))


def untimed(rows):
    """Rows without what depends on the clock; None for NaN compares equal to itself."""
    return [
        {name: value for name, value in row.items() if "time" not in name and not name.endswith("_s")} for row in rows
    ]


def test_set_values_are_json_or_text(rl, small):
    code, _, err = rl(
        "train", "ppo", "CartPole-v1", "--stop-iters", 1, "--run-dir", "a", *small,
        "--set", "training.lr=1e-4", "--set", "rl_module.model_config.fcnet_hiddens=[8, 8]",
        "--set", "environment.clip_actions=false", "--set", "training.grad_clip=None", "--set", "learners.device=cpu",
    )  # fmt: skip
    assert code == 0, err
    sections = json.loads(Path("a/config.json").read_text())["sections"]
    assert sections["training"]["lr"] == 1e-4
    assert sections["training"]["grad_clip"] is None
    assert sections["rl_module"]["model_config"]["fcnet_hiddens"] == [8, 8]
    assert sections["environment"]["clip_actions"] is False


@pytest.mark.usefixtures("real_pictures")
def test_missing_matplotlib_is_said_once_and_the_run_still_works(rl, small, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, out, _ = rl("train", "ppo", "CartPole-v1", "--stop-iters", 2, "--run-dir", "a", *small)
    assert code == 0
    assert out.count("rl-core[logging]") == 1
    assert not Path("a/learning_curve.png").exists()
    assert "<polyline" in Path("a/report.html").read_text()


def test_nothing_heavy_is_imported_to_train(tmp_path):
    program = (
        "import sys, rl_core.cli\n"
        "code = rl_core.cli.main(['train', 'ppo', 'CartPole-v1', '--stop-iters', '1'])\n"
        "heavy = ('matplotlib', 'tensorboard', 'imageio', 'rich', 'torch._dynamo', 'ray', 'pandas')\n"
        "print([name for name in heavy if name in sys.modules])\n"
        "sys.exit(code)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_a_checkpoint_and_the_run_resumes(rl, number, code, small):
    process = start("train", "ppo", "CartPole-v1", "--stop-timesteps", 10**9, "--run-dir", "one", *small)
    wait_for(lambda: process.poll() is not None or Path("one/metrics.jsonl").exists())
    time.sleep(0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, err
    assert "rl resume one" in out
    assert out.splitlines()[-1].startswith("interrupted: ")
    assert "Traceback" not in err
    rows = rows_of("one")
    assert Path(f"one/checkpoints/iteration_{len(rows):06d}").is_dir()
    code, out, err = rl("resume", "one", "--stop-iters", len(rows) + 2, "--stop-timesteps", 10**9)
    assert code == 0, err
    assert [row["training_iteration"] for row in rows_of("one")] == list(range(1, len(rows) + 3))


def test_a_killed_run_is_listed_as_stopped_and_its_files_can_be_read(rl, small):
    process = start(
        "train", "ppo", "CartPole-v1", "--stop-timesteps", 10**9, "--run-dir", "runs/one", *small,
        "--set", "checkpointing.checkpoint_frequency=1",
    )  # fmt: skip
    wait_for(lambda: process.poll() is not None or Path("runs/one/checkpoints/iteration_000005").exists())
    code, _, err = rl("resume", "runs/one")
    assert code == 2
    assert "is being trained by process" in err
    process.kill()
    process.communicate()
    code, out, _ = rl("list")
    assert " stopped " in out
    code, out, err = rl("resume", "runs/one", "--stop-iters", 1)
    assert code == 0, err
    iterations = [row["training_iteration"] for row in rows_of("runs/one")]
    assert iterations == sorted(set(iterations))


def test_failed_update_marks_the_run_and_keeps_checkpoints(rl, small, monkeypatch):
    train = Algorithm.train

    def failing(self):
        if self.iteration == 2:
            raise NonFiniteError("The loss is nan.")
        return train(self)

    monkeypatch.setattr(Algorithm, "train", failing)
    code, _, err = rl(
        "train", "ppo", "CartPole-v1", "--run-dir", "one", *small, "--set", "checkpointing.checkpoint_frequency=1"
    )
    assert code == 2
    assert "error: The loss is nan." in err
    assert "rl resume one" in err
    assert "Traceback" not in err
    assert Path("one/checkpoints/iteration_000002").is_dir()
    assert json.loads(Path("one/run.json").read_text())["status"] == "failed"
    assert len(rows_of("one")) == 2


@pytest.mark.usefixtures("real_pictures")
def test_workers_of_envs_do_not_keep_the_picture_waiting(rl, small):
    pytest.importorskip("matplotlib")
    started = time.monotonic()
    code, _, err = rl(
        "train", "ppo", "CartPole-v1", "--stop-iters", 2, "--run-dir", "one", *small,
        "--set", "env_runners.gym_env_vectorize_mode=async", "--set", "evaluation.evaluation_interval=1",
    )  # fmt: skip
    assert code == 0, err
    assert Path("one/learning_curve.png").exists()
    assert time.monotonic() - started < 45, "the workers hold the helper's pipe open; it must not wait for its end"


def test_ctrl_c_while_building_saves_the_untrained_policy(rl, small, monkeypatch):
    build = AlgorithmConfig.build

    def interrupted(self):
        os.kill(os.getpid(), signal.SIGINT)
        return build(self)

    with monkeypatch.context() as patch:
        patch.setattr(AlgorithmConfig, "build", interrupted)
        code, out, err = rl("train", "ppo", "CartPole-v1", "--run-dir", "one", *small)
    assert code == 130
    assert out.splitlines()[-1].startswith("interrupted: no evaluation yet, 0 env steps")
    assert "Ctrl-C again" in err or "Traceback" not in err
    code, _, err = rl("resume", "one", "--stop-iters", 2)
    assert code == 0, err
    assert len(rows_of("one")) == 2


def test_second_ctrl_c_stops_at_once_and_names_what_is_saved(rl, small, monkeypatch):
    train = Algorithm.train

    def impatient(self):
        if self.iteration == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
        return train(self)

    monkeypatch.setattr(Algorithm, "train", impatient)
    code, _, err = rl(
        "train", "ppo", "CartPole-v1", "--run-dir", "one", *small, "--set", "checkpointing.checkpoint_frequency=1"
    )
    assert code == 130
    assert "iteration_000002" in err
    assert "rl resume one" in err
    assert json.loads(Path("one/run.json").read_text())["status"] == "interrupted"


def test_env_of_a_module_in_this_folder(rl, small, monkeypatch):
    Path("my_countdown.py").write_text(
        "import gymnasium\ngymnasium.register('Test/Mine-v0', entry_point='rl_core.testing.envs:CountdownEnv')\n"
    )
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    code, _, err = rl("train", "ppo", "my_countdown:Test/Mine-v0", "--stop-iters", 1, "--run-dir", "one", *small)
    assert code == 0, err
    del sys.modules["my_countdown"]
    code, _, err = rl("evaluate", "one")
    assert code == 2
    assert "--allow my_countdown" in err, "a checkpoint must not run code of its choice"
    code, out, err = rl("evaluate", "one", "--allow", "my_countdown")
    assert code == 0, err
    assert "return 5.0" in out
    del sys.modules["my_countdown"]
    assert "no_such_package" in rl("evaluate", "one", "--allow", "no_such_package")[2]
    Path("broken.py").write_text("1 / 0")
    assert "--allow 'broken': its import raised ZeroDivisionError" in rl("evaluate", "one", "--allow", "broken")[2]
    assert "--allow '': expected the name of a package" in rl("evaluate", "one", "--allow", "")[2]


def test_a_sink_is_written_besides_and_gone_on_with(rl, small, tmp_path):
    run = tmp_path / "run"
    code, *_ = rl("train", "ppo", "Test/CountdownEnv-v0", "--stop-iters", 2, "--sink", "csv", "--run-dir", run, *small)
    assert code == 0
    assert [float(line.split(",")[0]) for line in (run / "metrics.csv").read_text().splitlines()[1:]] == [1, 2, 2]
    assert rl("resume", run, "--stop-iters", 3)[0] == 0
    lines = (run / "metrics.csv").read_text().splitlines()
    assert [float(line.split(",")[0]) for line in lines[1:]] == [1, 2, 2, 3, 3], "a last evaluation has its own"
    names = lines[0].split(",")
    *_, last, evaluated = (dict(zip(names, line.split(","), strict=True)) for line in lines)
    assert float(last["learner/default/entropy"]) == rows_of(run)[-1]["learner/default/entropy"]
    assert evaluated["learner/default/entropy"] == ""
    assert float(evaluated["evaluation/episode_return_mean"]) == rows_of(run)[-1]["evaluation/episode_return_mean"]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_sink_whose_library_is_missing_is_refused_before_anything_begins(name, rl, tmp_path, monkeypatch):
    monkeypatch.setattr("rl_core.cli.train.importlib.util.find_spec", lambda wanted: None)
    run = tmp_path / "run"
    code, _, err = rl("train", "ppo", "Test/CountdownEnv-v0", "--sink", name, "--run-dir", run)
    assert code == 2
    assert f"--sink {name} needs the extra: pip install 'rl-core[{name}]'" in err
    assert not run.exists()
