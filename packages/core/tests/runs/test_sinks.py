import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rl_core import Algorithm, Callbacks, CsvSink, JsonLinesSink, PPOConfig, Sink, TensorBoardSink
from rl_core.errors import ConfigError, RunError
from rl_core.runs.metrics_file import read_rows
from rl_core.runs.sinks import CsvWriter, plain_settings, scalars
from rl_core.testing.envs import CountdownEnv


class Logs(Callbacks):
    def on_sample_end(self, *, rollout, metrics):
        metrics.log_value("custom/steps", rollout.env_steps, reduce="sum")
        metrics.log_value("custom/series", rollout.env_steps, reduce="series")
        metrics.log_image("custom/map", np.eye(4))


def make_config(*sinks):
    return (
        PPOConfig()
        .environment(CountdownEnv)
        .env_runners(num_envs_per_env_runner=3)
        .training(train_batch_size_per_learner=48, minibatch_size=16, num_epochs=1)
        .rl_module(model_config={"fcnet_hiddens": [8]})
        .evaluation(evaluation_interval=2, evaluation_duration=3)
        .callbacks(callbacks_class=Logs)
        .reporting(sinks=sinks)
    )


def csv_rows(path):
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def tensorboard(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    sizes = {"scalars": 0, "images": 0, "histograms": 0}
    events = accumulator.EventAccumulator(str(folder), size_guidance=sizes)
    events.Reload()
    return events


def test_a_script_writes_to_all_sinks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    algorithm = make_config(JsonLinesSink(), CsvSink("logs/rows.csv"), TensorBoardSink("board")).build()
    assert list(tmp_path.iterdir()) == [], "nothing is opened before there is something to write"
    results = [algorithm.train() for _ in range(3)]
    late = algorithm.evaluate()
    algorithm.stop()
    rows = list(read_rows(tmp_path / "metrics.jsonl"))
    assert [row["training_iteration"] for row in rows] == [1, 2, 3, 3], "the last evaluation came after its row"
    assert rows[1]["learner/default/entropy"] == results[1]["learner/default/entropy"]
    assert (rows[0]["custom/series"], rows[0]["custom/steps"]) == ([48.0], 48.0)
    assert rows[3]["evaluation/training_iteration"] == 3 == late["evaluation/training_iteration"]
    lines = csv_rows(tmp_path / "logs" / "rows.csv")
    assert [line["env_steps"] for line in lines] == ["48", "96", "144", "144"]
    assert float(lines[2]["learner/default/entropy"]) == results[2]["learner/default/entropy"]
    assert lines[0]["evaluation/episode_return_mean"] == ""
    board = tensorboard(tmp_path / "board")
    assert [event.step for event in board.Scalars("custom/steps")] == [48, 96, 144]
    assert [event.step for event in board.Scalars("evaluation/episode_return_mean")] == [96, 144], "no repetitions"
    assert [event.step for event in board.Images("custom/map")] == [48, 96, 144]
    assert [event.step for event in board.Histograms("custom/series")] == [48, 96, 144]


def test_a_run_that_goes_on_drops_what_came_after_its_checkpoint(tmp_path):
    sinks = JsonLinesSink(str(tmp_path / "a.jsonl")), CsvSink(str(tmp_path / "a.csv"))
    config = make_config(*sinks, TensorBoardSink(str(tmp_path / "board")))
    algorithm = config.build()
    algorithm.train()
    saved = algorithm.save(tmp_path / "saved")
    kept, *_ = (algorithm.train() for _ in range(3))
    algorithm.stop()
    resumed = Algorithm.from_checkpoint(saved, allow=(__name__.partition(".")[0],))
    again = resumed.train()
    resumed.stop()
    assert again["learner/default/entropy"] == kept["learner/default/entropy"]
    for rows in (list(read_rows(tmp_path / "a.jsonl")), csv_rows(tmp_path / "a.csv")):
        assert [float(row["training_iteration"]) for row in rows] == [1, 2]
    assert [event.step for event in tensorboard(tmp_path / "board").Scalars("custom/steps")] == [48, 96]


@pytest.mark.parametrize("sink", [JsonLinesSink, CsvSink])
def test_results_of_another_run_are_not_overwritten(sink, tmp_path):
    path = tmp_path / "rows"
    path.write_text("precious")
    algorithm = make_config(sink(str(path))).build()
    with pytest.raises(RunError, match="exists already, and results are never overwritten. Give the sink another path"):
        algorithm.train()
    assert path.read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    algorithm = make_config(CsvSink(str(tmp_path / "file" / "rows.csv"))).build()
    with pytest.raises(RunError, match="file cannot be made: "):
        algorithm.train()


def test_a_new_figure_becomes_a_new_column(tmp_path):
    writer = CsvWriter(tmp_path / "a.csv", 0)
    writer.write({"training_iteration": 1, "a": 0.1}, {})
    writer.write({"training_iteration": 2, "b, with comma": math.inf}, {})
    writer.write({"training_iteration": 3, "a": math.nan, "b, with comma": 2}, {})
    writer.close()
    assert (tmp_path / "a.csv").read_text().splitlines() == [
        'training_iteration,a,"b, with comma"', "1,0.1,", "2,,inf", "3,,2"
    ]  # fmt: skip


def test_a_line_that_was_cut_off_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "a.csv"
    whole = ["training_iteration,a", "10,0.1", "11,0.2"]
    for cut in ("1", "12", "12,0.", "12,0.25"):
        path.write_text("\n".join([*whole, cut]))
        writer = CsvWriter(path, 12)
        writer.write({"training_iteration": 12, "a": 0.3}, {})
        writer.close()
        assert path.read_text().splitlines() == [*whole, "12,0.3"]


@dataclass(frozen=True)
class Remember(Sink):
    name: str = "x"

    def open(self, algorithm):
        return Remembered(self.name)


class Remembered:
    log = []  # noqa: RUF012 - the test reads it

    def __init__(self, name):
        self.log.append(name)

    def write(self, row, media):
        self.log.append((row["training_iteration"], row["changed"], sorted(media)))

    def close(self):
        self.log.append("closed")


class Changes(Callbacks):
    def on_train_result(self, *, algorithm, result):
        result["changed"] = np.float64(2.0)


def test_a_sink_of_ones_own_gets_what_callbacks_made_of_the_result():
    Remembered.log.clear()
    config = make_config(Remember("mine")).callbacks(callbacks_class=(Logs, Changes)).evaluation(evaluation_interval=0)
    algorithm = config.build()
    algorithm.train()
    algorithm.stop()
    algorithm.stop()
    assert Remembered.log == ["mine", (1, 2.0, ["custom/map", "custom/series"]), "closed"]


def test_a_run_that_only_evaluates_opens_nothing():
    Remembered.log.clear()
    algorithm = make_config(Remember()).build()
    algorithm.evaluate()
    algorithm.stop()
    assert Remembered.log == []


def test_what_is_no_sink_is_refused():
    with pytest.raises(
        ConfigError, match=r"reporting.sinks: got 'csv', expected instances of classes derived from Sink"
    ):
        make_config("csv").build()
    with pytest.raises(ConfigError, match="reporting.sinks: got <class .*CsvSink'>"):
        make_config(CsvSink).build()


def test_a_config_with_sinks_is_stored():
    config = make_config(CsvSink("a.csv"), TensorBoardSink())
    again = type(config).from_dict(config.to_dict(), allow=(__name__.partition(".")[0],))
    assert again.reporting.sinks == (CsvSink("a.csv"), TensorBoardSink())


def test_scalars_are_the_finite_numbers_that_are_new():
    row = {"training_iteration": 3, "evaluation/training_iteration": 2, "evaluation/a": 1.0, "b": math.nan, "c": 0.5}
    assert scalars(row) == {"training_iteration": 3, "c": 0.5}
    assert scalars({**row, "evaluation/training_iteration": 3})["evaluation/a"] == 1.0


def test_settings_for_services_are_plain():
    settings = plain_settings(make_config().training(lr=1e-3))
    assert settings["training.lr"] == 1e-3
    assert (settings["algorithm"], settings["seed"]) == ("ppo", 0)
    assert "CountdownEnv" in settings["environment.env"]
