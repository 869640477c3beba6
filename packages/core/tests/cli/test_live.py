"""The live display on a pseudo terminal."""

import io
import os
import pty
import select
import sys
import time

import pytest

from rl_core.cli.display import PlainDisplay, make_display
from rl_core.cli.live import LiveDisplay
from rl_core.runs.folder import RunFolder, RunRecord
from rl_core.runs.limits import Limits

LIMITS = Limits(reward=475, timesteps=10_000)


def row(iteration):
    return {
        "training_iteration": iteration,
        "env_steps": 1000 * iteration,
        "env_steps_per_s": 1000.0,
        "env_runners/episode_return_mean": 10.0 * iteration,
        "evaluation/training_iteration": iteration,
        "evaluation/episode_return_mean": 20.0 * iteration,
    }


@pytest.fixture
def folder(tmp_path):
    record = RunRecord(algorithm="ppo", env="[red]Cart[/red]", seed=3, limits=LIMITS)
    return RunFolder.create(tmp_path / "run", record)


def test_a_terminal_gets_a_live_panel(folder):
    main_end, terminal_end = pty.openpty()
    with os.fdopen(terminal_end, "w", encoding="utf-8") as stream:
        display = make_display(folder, LIMITS, stream=stream)
        assert isinstance(display, LiveDisplay)
        for iteration in (1, 2, 3):
            display.update(row(iteration), 2.0 * iteration)
        time.sleep(0.4)
        display.note("a line that stays")
        display.close()
        stream.flush()
        text = _read(main_end)
    os.close(main_end)
    for part in (
        "ppo on [red]Cart[/red], seed 3",
        "3,000",
        "500",
        "30.0",
        "60.0",
        "▁",
        "█",
        "time left",
        "a line that",
    ):
        assert part in text
    assert "475" in text


def test_anything_else_gets_plain_lines(folder, monkeypatch):
    stream = io.StringIO()
    display = make_display(folder, LIMITS, stream=stream)
    assert isinstance(display, PlainDisplay)
    monkeypatch.setattr("rl_core.cli.display.PLAIN_INTERVAL_S", 0.0)
    display.update(row(1), 2.0)
    first, second = stream.getvalue().splitlines()
    assert "until return 475 or 10,000 env steps" in first
    assert "1,000 steps" in second
    assert "\x1b" not in stream.getvalue()


def test_an_old_terminal_gets_ascii(folder):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    display = LiveDisplay(folder, LIMITS, stream=stream)
    display.update(row(1), 1.0)
    display.update(row(2), 2.0)
    display.close()
    stream.flush()
    stream.buffer.getvalue().decode("ascii")


def _read(descriptor):
    data = b""
    while select.select([descriptor], [], [], 0.2)[0]:
        try:
            data += os.read(descriptor, 65536)
        except OSError:
            break
    assert sys.platform != "win32"
    return data.decode("utf-8")
