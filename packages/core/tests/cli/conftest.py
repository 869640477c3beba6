"""A command that runs in this process, small settings, and envs by id."""

import shutil

import gymnasium
import pytest

from rl_core.cli import main

SMALL = [
    "--set=training.train_batch_size_per_learner=32",
    "--set=training.minibatch_size=16",
    "--set=training.num_epochs=1",
    "--set=env_runners.num_envs_per_env_runner=2",
    "--set=evaluation.evaluation_duration=3",
]


@pytest.fixture(autouse=True)
def test_envs(monkeypatch, tmp_path):
    """Register the misbehaving envs, and run in an empty folder."""
    for name in ("CountdownEnv", "NanRewardEnv", "LeavingSpaceEnv", "RaisingEnv"):
        gymnasium.register(f"Test/{name}-v0", entry_point=f"rl_core.testing.envs:{name}")
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in gymnasium.registry if name.startswith("Test/")]:
        del gymnasium.registry[name]


@pytest.fixture
def rl(capsys):
    """Run the command: `rl("train", ...)` gives exit code, standard output and standard error."""

    def run(*arguments):
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def small():
    return SMALL


@pytest.fixture(autouse=True)
def pictures(request, monkeypatch):
    """Spare the tests the second that Matplotlib takes, except those marked `usefixtures("real_pictures")`."""
    if "real_pictures" not in request.fixturenames:
        monkeypatch.setattr("rl_core.runs.loop.PictureProcess", _NoPicture)


@pytest.fixture
def real_pictures():
    """Let the helper process draw."""


class _NoPicture:
    def begin(self, curve, path):
        pass

    def wait(self):
        return None

    def close(self):
        pass


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """A finished run of four iterations, with the newest three checkpoints."""
    path = tmp_path_factory.mktemp("trained") / "one"
    arguments = ["train", "ppo", "CartPole-v1", "--stop-iters=4", f"--run-dir={path}", *SMALL]
    assert main([*arguments, "--set=checkpointing.checkpoint_frequency=1"]) == 0
    return path


@pytest.fixture
def trained(trained_once):
    """A copy of `trained_once` in `runs/one`."""
    shutil.copytree(trained_once, "runs/one")
    return "runs/one"
