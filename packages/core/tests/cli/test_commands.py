import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rl_core import PPOConfig
from rl_core.algorithm import registry
from rl_core.cli import commands, inputs, options
from rl_core.cli.display import ProgressMeter, duration, sparkline
from rl_core.cli.record import _frames
from rl_core.errors import ConfigError
from rl_core.runs.limits import Limits
from rl_core.testing.envs import ObservationIsTimeEnv

COMMANDS = ["train", "resume", "evaluate", "record", "plot", "list", "info"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(rl, command):
    code, out, _ = rl(command, "--help")
    assert code == 0
    assert out.startswith(f"usage: rl {command}")
    assert "--debug" in out


def test_help_names_all_commands_and_exit_codes(rl):
    code, out, _ = rl("--help")
    assert code == 0
    assert all(f"    {command} " in out for command in COMMANDS)
    assert "3    a limit came before the stop reward" in out
    assert rl()[0] == 2


def test_train_help_states_the_default_budget(rl):
    _, out, _ = rl("train", "--help")
    assert "100,000" in out
    assert "1,000,000" in out


def test_evaluate_takes_a_run_or_a_checkpoint(rl, trained):
    code, out, _ = rl("evaluate", trained, "--episodes", 4, "--json")
    by_run = json.loads(out)
    assert code == 0
    assert by_run["episodes"] == 4
    assert by_run["min"] <= by_run["return"] <= by_run["max"]
    assert by_run["checkpoint"].endswith("iteration_000004")
    code, out, _ = rl("evaluate", by_run["checkpoint"], "--episodes", 4, "--json")
    assert json.loads(out) == by_run
    code, out, _ = rl("evaluate", trained)
    assert "20 episodes" in out
    assert " ± " in out


def test_record_writes_a_playable_video(rl, trained):
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("pygame")
    code, out, err = rl("record", trained, "-o", "film.mp4", "--max-steps", 12)
    assert code == 0, err
    assert "film.mp4: 1 episode of CartPole-v1, return " in out
    with imageio.get_reader("film.mp4") as reader:
        frames = [np.asarray(frame) for frame in reader]
        assert reader.get_meta_data()["fps"] == pytest.approx(50, abs=1)
    assert frames[0].shape == (400, 600, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 50, "the cart moved"
    assert not list(Path().glob(".film*"))


def test_record_says_what_an_env_can_render(rl, small):
    pytest.importorskip("imageio")
    rl("train", "ppo", "Test/CountdownEnv-v0", "--stop-iters", 1, "--run-dir", "one", *small)
    code, _, err = rl("record", "one", "-o", "film.mp4")
    assert code == 2
    assert "rgb_array" in err
    assert not Path("film.mp4").exists()


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_plot_draws_several_runs(rl, trained, small, suffix):
    pytest.importorskip("matplotlib")
    rl("train", "ppo", "CartPole-v1", "--seed", 1, "--stop-iters", 4, "--run-dir", "runs/two", *small)
    code, out, err = rl("plot", trained, "runs/two", "-o", f"curves{suffix}")
    assert code == 0, err
    assert "2 runs" in out
    assert Path(f"curves{suffix}").stat().st_size > 5000


def test_list_shows_runs_with_their_figures(rl, trained):
    code, out, _ = rl("list")
    assert code == 0
    header, row = out.splitlines()
    assert header.split()[:3] == ["run", "algorithm", "env"]
    assert row.split()[:7] == ["runs/one", "ppo", "CartPole-v1", "0", "finished", "4", "128"]
    (run,) = json.loads(rl("list", "runs", "--json")[1])
    assert run["env_steps"] == 128
    assert run["evaluation"] > 0


def test_list_of_nothing(rl):
    code, out, _ = rl("list")
    assert code == 0
    assert "no runs" in out


def test_info(rl):
    code, out, _ = rl("info", "--json")
    facts = json.loads(out)
    assert code == 0
    assert {"python", "rl-core", "torch", "gymnasium", "numpy"} <= set(facts["versions"])
    assert "ppo" in facts["algorithms"]
    code, out, _ = rl("info")
    assert "threads" in out
    assert "matplotlib" in out


class _EntryPoints:
    """Entry points of a package that is not there."""

    def __init__(self, monkeypatch, group, **loads):
        self.entries = [
            argparse.Namespace(name=name, value=f"elsewhere:{name}", load=load) for name, load in loads.items()
        ]
        monkeypatch.setattr(
            importlib.metadata, "entry_points", lambda group: self.entries if group == self.group else []
        )
        self.group = group


def test_another_package_adds_a_command(rl, monkeypatch):
    def add(subparsers):
        parser = subparsers.add_parser("serve")
        parser.add_argument("port", type=int)
        parser.set_defaults(run=lambda arguments: arguments.port)

    _EntryPoints(monkeypatch, commands.COMMANDS, serve=lambda: add)
    assert rl("serve", 17)[0] == 17
    assert rl("serve", "x")[0] == 2


def test_a_broken_package_does_not_take_the_command_away(rl, monkeypatch):
    def load():
        raise ImportError("no module named elsewhere")

    _EntryPoints(monkeypatch, commands.COMMANDS, serve=load)
    code, _, err = rl("list")
    assert code == 0
    assert "warning: the command 'serve'" in err


def test_algorithm_of_a_package_that_cannot_be_imported(monkeypatch):
    _EntryPoints(monkeypatch, registry.ALGORITHMS, ddpg=None)
    with pytest.raises(ConfigError, match="'ddpg' .* cannot be imported"):
        registry.algorithm_config("ddpg")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1e-3", 1e-3), ("true", True), ("True", True), ("None", None), ("null", None), ("tanh", "tanh"),
     ("[1, 2]", [1, 2]), ('{"a": 1}', {"a": 1}), ('"1"', "1"), ("", "")],
)  # fmt: skip
def test_setting_value(text, value):
    assert inputs.setting_value(text) == value
    assert type(inputs.setting_value(text)) is type(value)


@pytest.mark.parametrize(
    ("text", "value"), [("5", 5), ("1e6", 10**6), ("1_000", 1000), ("123456789012345678", 123456789012345678)]
)
def test_whole_numbers(text, value):
    assert options.positive_int(text) == value


def test_broken_pipe_is_no_error(trained):
    command = f"{sys.executable} -c 'import sys; from rl_core.cli import main; sys.exit(main([\"list\"]))' | true"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, env=environment
    )
    assert "Traceback" not in done.stderr


def test_sparkline():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], width=8) == "▁▂▃▄▅▆▇█"
    assert sparkline([float("nan"), 3.0], width=8) == "▁"
    assert sparkline([], width=8) == ""
    assert len(sparkline(list(range(1000)), width=20)) == 20
    assert sparkline([0, 0, 9, 9], width=2) == "▁█"


@pytest.mark.parametrize(
    ("seconds", "text"), [(4.24, "4.2 s"), (185, "3:05"), (7800, "2:10:00"), (float("nan"), "-"), (float("inf"), "-")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def row(iteration, steps):
    return {
        "training_iteration": iteration,
        "env_steps": steps,
        "env_steps_per_s": 100.0,
        "env_runners/episode_return_mean": 1.0,
        "evaluation/training_iteration": iteration,
        "evaluation/episode_return_mean": 2.0,
    }


def test_time_left_is_that_of_the_limit_which_comes_first():
    meter = ProgressMeter(Limits(timesteps=1000, iterations=100, time_s=50))
    meter.update(row(1, 100), 10.0)
    progress = meter.update(row(2, 200), 12.0)
    assert progress.seconds_left == pytest.approx(16.0), "800 steps are left at 50 a second"
    assert progress.steps_per_s == pytest.approx(50.0)
    assert progress.fraction == pytest.approx(0.24), "12 of 50 seconds"


class PicturedEnv(ObservationIsTimeEnv):
    def render(self):
        return np.zeros((2, 2, 3), np.uint8)


def test_a_recorded_policy_is_told_its_rewards(monkeypatch):
    policy = PPOConfig().environment(PicturedEnv, disable_env_checking=True).build().policy
    told, act = [], policy.act

    def listening(obs, state, **settings):
        told.append(settings["reward"])
        return act(obs, state, **settings)

    monkeypatch.setattr(policy, "act", listening)
    arguments, returns = argparse.Namespace(episodes=2, seed=0, max_steps=100, explore=False), []
    frames = list(_frames(PicturedEnv(), policy, arguments, returns))
    assert told == [0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0], "0 at the beginning of each episode"
    assert returns == [6.0, 10.0]
    assert len(frames) == 9
