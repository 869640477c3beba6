"""Which checkpoints are saved and stay."""

import math
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rl_core import Algorithm, Callbacks, PPOConfig
from rl_core.checkpoint import Checkpoint, newest_checkpoint, save_checkpoint
from rl_core.checkpoint_files import ARRAYS, MANIFEST
from rl_core.errors import CheckpointError, ConfigError
from rl_core.runs.keeper import CheckpointKeeper


class Counting:
    """An algorithm that counts and saves."""

    def __init__(self, **checkpointing):
        self.config = PPOConfig().checkpointing(**checkpointing)
        self.iteration = 0

    def save(self, path, *, wait, notes):
        return save_checkpoint(path, {"counters": {"iteration": self.iteration}}, notes=notes)

    def wait_for_checkpoints(self):
        pass


def play(folder, scores, **checkpointing):
    algorithm = Counting(**checkpointing)
    keeper = CheckpointKeeper(algorithm, folder)
    for score in scores:
        algorithm.iteration += 1
        keeper.after_iteration({"score": score, "loss": -score})
    keeper.finish()
    return keeper, [int(str(path)[-6:]) for path in keeper.checkpoints()]


def test_the_newest_stay_and_every_nth_is_saved(tmp_path):
    assert play(tmp_path / "a", range(20), checkpoint_frequency=3)[1] == [20, 18, 15]
    assert play(tmp_path / "b", range(20), checkpoint_frequency=3, checkpoint_at_end=False)[1] == [18, 15, 12]
    assert play(tmp_path / "c", range(7), checkpoint_frequency=0)[1] == [7]
    assert play(tmp_path / "d", range(7), checkpoint_frequency=0, checkpoint_at_end=False)[1] == []
    assert play(tmp_path / "e", range(7), checkpoint_frequency=2, num_to_keep=1)[1] == [7]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scores=st.lists(st.one_of(st.integers(0, 5).map(float), st.just(math.nan)), min_size=1, max_size=12),
    keep=st.integers(1, 4),
    order=st.sampled_from(["max", "min"]),
)
def test_the_best_stay_and_always_the_newest(tmp_path_factory, scores, keep, order):
    folder = tmp_path_factory.mktemp("runs")
    keeper, kept = play(
        folder,
        scores,
        checkpoint_frequency=1,
        num_to_keep=keep,
        checkpoint_score_attribute="score",
        checkpoint_score_order=order,
    )
    sign = 1 if order == "max" else -1
    value = {place + 1: -math.inf if math.isnan(score) else sign * score for place, score in enumerate(scores)}
    newest = len(scores)
    others = sorted(
        (place for place in value if place != newest), key=lambda place: (value[place], place), reverse=True
    )
    assert sorted(kept) == sorted([newest, *others[: keep - 1]])
    assert int(str(keeper.newest())[-6:]) == newest
    best = max(kept, key=lambda place: (value[place], place))
    assert int(str(keeper.best())[-6:]) == best


def test_checkpoints_of_another_run_are_left_alone_and_refused(tmp_path):
    play(tmp_path, range(10), checkpoint_frequency=5)
    for num_iterations, frequency in ((7, 3), (10, 10), (5, 5)):
        with pytest.raises(
            CheckpointError, match="another run: iteration_000010, but this one went on from iteration 0"
        ):
            play(tmp_path, range(num_iterations), checkpoint_frequency=frequency)
    algorithm = Counting(checkpoint_frequency=1)
    algorithm.iteration = 5  # restored from the middle
    with pytest.raises(CheckpointError, match="went on from iteration 5. Restore that checkpoint before you go on, or"):
        CheckpointKeeper(algorithm, tmp_path).finish()
    assert [int(str(path)[-6:]) for path in CheckpointKeeper(algorithm, tmp_path).checkpoints()] == [10, 5]


def test_a_run_that_goes_on_knows_the_scores_of_the_one_before(tmp_path):
    settings_ = {"checkpoint_frequency": 1, "num_to_keep": 2, "checkpoint_score_attribute": "score"}
    assert play(tmp_path, [1, 9, 2], **settings_)[1] == [3, 2]
    algorithm = Counting(**settings_)
    algorithm.iteration = 3
    keeper = CheckpointKeeper(algorithm, tmp_path)
    for score in (5.0, 4.0):
        algorithm.iteration += 1
        keeper.after_iteration({"score": score})
    assert [str(path)[-1] for path in keeper.checkpoints()] == ["5", "2"]
    assert str(keeper.best())[-1] == "2"
    assert Checkpoint(keeper.best()).notes == {"score": 9.0}


def loss_of(result):
    return result["loss"]


def test_a_function_may_judge(tmp_path):
    keeper, kept = play(
        tmp_path, [3, 1, 4, 1, 5], checkpoint_frequency=1, num_to_keep=2, checkpoint_score_attribute=loss_of
    )
    assert kept == [5, 4]
    assert str(keeper.best())[-1] == "4"


def test_a_name_that_the_result_lacks_is_refused_at_the_first_result(tmp_path):
    with pytest.raises(ConfigError, match="the result has no 'scores'. Did you mean 'score'?"):
        play(tmp_path, [1.0], checkpoint_score_attribute="scores")
    with pytest.raises(ConfigError, match="is 'high', expected a number"):
        play(tmp_path, [1.0], checkpoint_score_attribute=lambda result: "high")
    with pytest.raises(ConfigError, match="checkpoint_score_attribute: got 3, expected a name in the result"):
        PPOConfig().checkpointing(checkpoint_score_attribute=3)
    with pytest.raises(ConfigError, match="expected one of 'max', 'min'"):
        PPOConfig().checkpointing(checkpoint_score_order="best")


def test_the_score_of_an_evaluation_that_is_never_made_is_refused(tmp_path):
    name, unknown = "evaluation/episode_return_mean", {"evaluation/episode_return_mean": math.nan}
    algorithm = Counting(checkpoint_frequency=1, checkpoint_score_attribute=name)
    keeper = CheckpointKeeper(algorithm, tmp_path)
    with pytest.raises(ConfigError, match=r"is never known, because this run does not evaluate. Set evaluation\("):
        keeper.after_iteration(unknown)
    keeper.after_iteration({name: 3.0})  # somebody evaluated all the same
    algorithm.config.evaluation(evaluation_interval=5)
    algorithm.iteration += 1
    keeper.after_iteration(unknown)  # not yet
    assert str(keeper.best())[-1] == "0"


def test_one_that_becomes_complete_while_others_are_deleted_stays(tmp_path, monkeypatch):
    """The background finishes at any moment, here right after the keeper has looked."""
    algorithm = Counting(checkpoint_frequency=1, num_to_keep=1, checkpoint_score_attribute="score")
    keeper, pending = CheckpointKeeper(algorithm, tmp_path), []
    monkeypatch.setattr(algorithm, "save", lambda path, *, wait, notes: pending.append((path, notes)))
    real = keeper._names

    def look_and_complete():
        names = real()
        while pending and names:  # the first look in `_save` comes before anything is pending
            path, notes = pending.pop()
            save_checkpoint(path, {"counters": {}}, notes=notes)
        return names

    save_checkpoint(tmp_path / "iteration_000001", {"counters": {}}, notes={"score": 9.0})
    monkeypatch.setattr(keeper, "_names", look_and_complete)
    algorithm.iteration = 2
    keeper.after_iteration({"score": 1.0})
    assert real() == ["iteration_000002", "iteration_000001"]


def test_what_killed_processes_left_is_tidied_up(tmp_path):
    for pid in (os.getpid(), 2**22 + 1, os.getppid()):
        (tmp_path / f".iteration_000001.{pid}.tmp").mkdir()
    (tmp_path / ".notes.tmp").mkdir()
    CheckpointKeeper(Counting(), tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([f".iteration_000001.{os.getppid()}.tmp", ".notes.tmp"])


def test_without_a_checkpoint_there_is_no_best(tmp_path):
    keeper = CheckpointKeeper(Counting(), tmp_path / "nowhere")
    assert keeper.checkpoints() == []
    with pytest.raises(CheckpointError, match="There is no checkpoint in"):
        keeper.best()


def test_a_damaged_checkpoint_is_the_worst(tmp_path):
    keeper, kept = play(tmp_path, [9.0, 1.0], checkpoint_frequency=1, checkpoint_score_attribute="score")
    assert kept == [2, 1]
    (tmp_path / "iteration_000001" / "manifest.json").write_text("{")
    assert str(keeper.best())[-1] == "2"


class Notes(Callbacks):
    def __init__(self):
        self.saved = []

    def on_checkpoint_saved(self, *, algorithm, path):
        Checkpoint(path).verify()
        self.saved.append((algorithm.iteration, str(path)[-1]))


@pytest.mark.parametrize("where", ["path", "memory"])
def test_a_run_keeps_its_best(tmp_path, where):
    notes = Notes()
    config = (
        PPOConfig()
        .environment("CartPole-v1")
        .training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1)
        .checkpointing(checkpoint_frequency=1, num_to_keep=2, checkpoint_score_attribute="env_runners/episode_len_mean")
        .callbacks(callbacks_class=notes)
    )
    algorithm = config.build()
    algorithm.config.callbacks(callbacks_class=None)  # an instance has no import path
    folder = tmp_path / "run" if where == "path" else "memory://keeper"
    keeper = CheckpointKeeper(algorithm, folder)
    scores = {}
    for _ in range(5):
        result = algorithm.train()
        scores[algorithm.iteration] = result["env_runners/episode_len_mean"]
        keeper.after_iteration(result)
    keeper.finish()
    algorithm.stop()
    assert [name for _, name in notes.saved] == list("12345")
    assert all(0 <= at - int(name) <= 1 for at, name in notes.saved)
    known = {place: score for place, score in scores.items() if score == score}
    best = max(known, key=lambda place: (known[place], place))
    assert int(str(keeper.best())[-6:]) == best
    assert newest_checkpoint(folder) == keeper.newest()
    assert Algorithm.from_checkpoint(keeper.best()).iteration == best


def test_a_save_that_fails_in_the_background_is_told_by_the_next_or_by_stop(tmp_path):
    algorithm = PPOConfig().environment("CartPole-v1").build()
    (tmp_path / "file").write_text("x")
    algorithm.save(tmp_path / "file" / "a", wait=False)
    with pytest.raises(CheckpointError, match="Cannot write the checkpoint"):
        algorithm.save(tmp_path / "b", wait=False)
    algorithm.save(tmp_path / "file" / "c", wait=False)
    with pytest.raises(CheckpointError, match="Cannot write the checkpoint"):
        algorithm.stop()
    algorithm.stop()


def test_what_training_does_meanwhile_is_not_in_the_checkpoint(tmp_path):
    algorithm = PPOConfig().environment("CartPole-v1").training(train_batch_size_per_learner=256).build()
    algorithm.train()
    algorithm.save(tmp_path / "waited")
    algorithm.save(tmp_path / "background", wait=False)
    algorithm.train()
    algorithm.stop()
    for file in (MANIFEST, ARRAYS):
        assert (tmp_path / "background" / file).read_bytes() == (tmp_path / "waited" / file).read_bytes()
