"""Weights & Biases and MLflow, offline; each test runs where the extra is installed."""

import builtins
import json
import sys

import numpy as np
import pytest

from rl_core import Algorithm, Callbacks, MLflowSink, PPOConfig, WandbSink
from rl_core.errors import ConfigError
from rl_core.testing.envs import CountdownEnv


class Logs(Callbacks):
    def on_sample_end(self, *, rollout, metrics):
        metrics.log_value("custom/steps [rows]", rollout.env_steps, reduce="sum")
        metrics.log_value("custom/series", rollout.env_steps, reduce="series")
        metrics.log_image("custom/map", np.eye(4))
        metrics.log_video("custom/film", np.stack([np.eye(8)[..., np.newaxis]] * 3), fps=5)


def make_config(*sinks):
    return (
        PPOConfig()
        .environment(CountdownEnv)
        .env_runners(num_envs_per_env_runner=3)
        .training(train_batch_size_per_learner=48, minibatch_size=16, num_epochs=1, lr=1e-3)
        .rl_module(model_config={"fcnet_hiddens": [8]})
        .callbacks(callbacks_class=Logs)
        .reporting(sinks=sinks)
    )


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    algorithm = make_config(WandbSink(project="p", name="n", mode="offline", folder=str(tmp_path), run_id="i1")).build()
    algorithm.train()
    run = wandb.run
    result = algorithm.train()
    assert (run.project, run.name, run.id, run.offline) == ("p", "n", "i1", True)
    assert run.config["training.lr"] == 1e-3
    assert run.summary["custom/steps [rows]"] == 48.0
    assert run.summary["learner/default/entropy"] == result["learner/default/entropy"]
    kinds = {name: run.summary[f"custom/{name}"]["_type"] for name in ("map", "film", "series")}
    assert kinds == {"map": "image-file", "film": "video-file", "series": "histogram"}
    algorithm.stop()
    assert wandb.run is None
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    assert list(folder.glob("*.wandb"))
    assert sorted(path.suffix for path in (folder / "files").rglob("custom/*")) == [".gif", ".gif", ".png", ".png"]


def test_mlflow_in_a_local_store(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    algorithm = make_config(MLflowSink(experiment="e", name="n", tracking_uri=uri, run_id="mine")).build()
    results = [algorithm.train() for _ in range(2)]
    saved = algorithm.save(tmp_path / "saved")
    algorithm.stop()
    client = mlflow.MlflowClient(tracking_uri=uri)
    place = client.get_experiment_by_name("e").experiment_id
    (run,) = client.search_runs([place])
    assert (run.info.run_name, run.info.status) == ("n", "FINISHED")
    assert run.data.params["training.lr"] == "0.001"
    history = client.get_metric_history(run.info.run_id, "learner/default/entropy")
    assert [(point.step, point.value) for point in history] == [
        (48 * (place + 1), result["learner/default/entropy"]) for place, result in enumerate(results)
    ]
    assert run.data.metrics["custom/steps _rows_"] == 48.0
    assert len(client.list_artifacts(run.info.run_id, "videos/custom/film")) == 2
    assert len([file for file in client.list_artifacts(run.info.run_id, "images") if file.path.endswith(".png")]) == 2

    resumed = Algorithm.from_checkpoint(saved, allow=(__name__.partition(".")[0],))
    resumed.train()
    assert client.get_run(run.info.run_id).info.status == "RUNNING"
    resumed.stop()
    assert len(client.get_metric_history(run.info.run_id, "env_steps")) == 3
    assert len(client.search_runs([place])) == 1


@pytest.mark.parametrize(("sink", "name"), [(WandbSink(), "wandb"), (MLflowSink(), "mlflow")])
def test_a_missing_extra_is_named(sink, name, monkeypatch):
    real = builtins.__import__

    def fails(wanted, *arguments, **keywords):
        if wanted == name:
            raise ImportError(f"No module named {name!r}")
        return real(wanted, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", fails)
    algorithm = make_config(sink).build()
    with pytest.raises(ConfigError, match=rf"needs the extra \(.*\): pip install 'rl-core\[{name}\]'"):
        algorithm.train()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_run_without_the_sink_does_not_import_the_service(name):
    before = set(sys.modules)
    algorithm = make_config().build()
    algorithm.train()
    algorithm.stop()
    assert name not in set(sys.modules) - before
    assert json.dumps(algorithm.config.to_dict()).count(name) == 0
