"""Which checkpoints of a run are saved and which stay: every n iterations, the newest, the best by a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rl_core.checkpoint import Checkpoint
from rl_core.checkpoint_files import MANIFEST
from rl_core.config.check import nearest
from rl_core.errors import CheckpointError, ConfigError
from rl_core.runs.folder import CHECKPOINT_PATTERN
from rl_core.storage import Location, folder_at, remove_leftovers

if TYPE_CHECKING:
    from rl_core.algorithm.algorithm import Algorithm


class CheckpointKeeper:
    """Saves checkpoints `iteration_000010`, ... of an algorithm in one folder as its section `checkpointing` says.

    Each carries its score in its notes, so that a run that goes on after a crash knows the scores of those before.

    Example:
        >>> keeper = CheckpointKeeper(algorithm, "checkpoints")
        >>> for _ in range(100):
        ...     keeper.after_iteration(algorithm.train())
        >>> keeper.finish()
        >>> best = Algorithm.from_checkpoint(keeper.best())
    """

    def __init__(self, algorithm: Algorithm, folder: Location) -> None:
        """Find the checkpoints that are there already.

        Args:
            algorithm: Whose config says what is saved and kept.
            folder: Made with the first checkpoint; a path, or a URL of fsspec. Only this keeper writes into it.
        """
        self._algorithm = algorithm
        self._settings = algorithm.config.checkpointing.settings
        self._folder = folder_at(folder)
        remove_leftovers(self._folder)
        self._result: Mapping[str, Any] = {}
        self._begun = algorithm.iteration
        self._foreign = [name for name in self._names() if int(name.rpartition("_")[2]) > self._begun]

    def after_iteration(self, result: Mapping[str, Any], *, may_save: bool = True) -> None:
        """Take the result of an iteration, and save a checkpoint in the background if one is due.

        Args:
            result: What `train` returned.
            may_save: False for an iteration after which none shall be saved.

        Raises:
            ConfigError: the result has no figure that `checkpoint_score_attribute` names, it is no number, or it is
                one of evaluations that are never made.
            CheckpointError: the checkpoint before could not be written, or the folder has some of another run.
        """
        self._result = result
        score = self.score(result)
        frequency, iteration = self._settings.checkpoint_frequency, self._algorithm.iteration
        if may_save and frequency and iteration % frequency == 0:
            self._save(score, wait=False)

    def finish(self) -> None:
        """Save the last iteration, unless `checkpoint_at_end` is off, and wait until everything is written.

        Raises:
            CheckpointError: it cannot be written, or the folder has checkpoints of another run.
        """
        self._algorithm.wait_for_checkpoints()
        if self._settings.checkpoint_at_end:
            self._save(self.score(self._result) if self._result else math.nan, wait=True)
        self._prune()

    def score(self, result: Mapping[str, Any]) -> float:
        """Work out how good the policy of a result is, NaN where that is not known.

        Raises:
            ConfigError: there is no such figure, or it is no number.
        """
        attribute = self._settings.checkpoint_score_attribute
        if attribute is None:
            return math.nan
        where = "checkpointing.checkpoint_score_attribute"
        if isinstance(attribute, str) and attribute not in result:
            raise ConfigError(f"{where}: the result has no {attribute!r}.{nearest(attribute, result)}")
        value: Any = result[attribute] if isinstance(attribute, str) else attribute(result)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ConfigError(f"{where}: {attribute!r} is {value!r}, expected a number.") from None

    def checkpoints(self) -> list[Location]:
        """Return the complete checkpoints, newest first."""
        return [self._folder.child(name).location for name in self._names()]

    def newest(self) -> Location:
        """Return the newest checkpoint.

        Raises:
            CheckpointError: there is none.
        """
        return self._first(self._names())

    def best(self) -> Location:
        """Return the best checkpoint by its score; the newest where none has one.

        Raises:
            CheckpointError: there is none.
        """
        return self._first(self._ranked(self._names()))

    def _first(self, names: list[str]) -> Location:
        if not names:
            raise CheckpointError(f"There is no checkpoint in {self._folder.location}.")
        return self._folder.child(names[0]).location

    def _save(self, score: float, *, wait: bool) -> None:
        """Save a checkpoint of this iteration, unless it has one, and delete those that need not stay."""
        if self._foreign:
            raise CheckpointError(
                f"{self._folder.location} has checkpoints of another run: {self._foreign[0]}, but this one went on "
                f"from iteration {self._begun}. Restore that checkpoint before you go on, or give another folder."
            )
        attribute = self._settings.checkpoint_score_attribute
        evaluation = self._algorithm.config.evaluation.settings
        of_evaluation = isinstance(attribute, str) and attribute.startswith("evaluation/")
        if of_evaluation and math.isnan(score) and not evaluation.evaluation_interval:
            raise ConfigError(
                f"checkpointing.checkpoint_score_attribute: {attribute!r} is never known, because this run does not "
                "evaluate. Set evaluation(evaluation_interval=...), or choose another figure."
            )
        name = f"iteration_{self._algorithm.iteration:06d}"
        if name not in self._names():
            notes = {} if math.isnan(score) else {"score": score}
            self._algorithm.save(self._folder.child(name).location, wait=wait, notes=notes)
            self._prune()

    def _prune(self) -> None:
        """Delete complete checkpoints beyond `num_to_keep`; never the newest, nor one that is being written."""
        names = self._names()  # once: another may become complete at any moment
        ranked = self._ranked(names) if self._settings.checkpoint_score_attribute is not None else names
        others = [name for name in ranked if name != names[0]]
        for name in others[self._settings.num_to_keep - 1 :]:
            self._folder.child(name).remove(first=MANIFEST)

    def _names(self) -> list[str]:
        """Names of the complete checkpoints, newest first."""
        found = [
            (int(match.group(1)), name)
            for name in self._folder.children()
            if (match := CHECKPOINT_PATTERN.fullmatch(name))
        ]
        return [name for _, name in sorted(found, reverse=True)]

    def _ranked(self, names: list[str]) -> list[str]:
        """Sort names that are newest first: best first, of equal ones the newer, those without a score last."""
        sign = 1 if self._settings.checkpoint_score_order == "max" else -1
        scores: dict[str, float] = {}
        for name in names:
            try:
                score = Checkpoint(self._folder.child(name).location).notes.get("score")
            except CheckpointError:  # damaged: it goes first
                score = None
            scores[name] = sign * float(score) if isinstance(score, int | float) else -math.inf
        return sorted(scores, key=lambda name: scores[name], reverse=True)
