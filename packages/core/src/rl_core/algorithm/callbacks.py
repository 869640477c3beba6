"""Code of yours that is called on events of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rl_core.config.check import nearest
from rl_core.errors import ConfigError
from rl_core.metrics import MetricsLogger
from rl_core.storage import Location

if TYPE_CHECKING:
    from rl_core.algorithm.algorithm import Algorithm


class Callbacks:
    """Derive a class, define the events you want, and give it to `config.callbacks(callbacks_class=...)`.

    An event that you do not define costs nothing; whole episodes are put together only if `on_episode_end` is defined.

    Example:
        >>> class LongestEpisode(Callbacks):
        ...     def on_episode_end(self, *, episode, metrics):
        ...         metrics.log_value("env_runners/longest", len(episode.reward), reduce="max")
    """

    def on_algorithm_init(self, *, algorithm: Algorithm) -> None:
        """The algorithm is built."""

    def on_episode_end(self, *, episode: Any, metrics: MetricsLogger) -> None:
        """A training episode ended; called at the end of the rollout in which it did.

        `episode` is a `rl_core.sampling.episodes.Episode`, or what the runner of an extension has in its place.
        """

    def on_sample_end(self, *, rollout: Any, metrics: MetricsLogger) -> None:
        """A rollout was sampled and is about to be learned from."""

    def on_learner_update_end(self, *, learner: Any, result: dict[str, float], metrics: MetricsLogger) -> None:
        """A learner has learned from a rollout; called where it does that, once for each module that is trained.

        `learner` is a `Learner`, a `ReplayLearner` or one of an extension; `result` its figures
        `learner/<module>/...`, changes of which are seen in the result of the iteration.
        """

    def on_train_result(self, *, algorithm: Algorithm, result: dict[str, float]) -> None:
        """An iteration is over; changes of `result` are seen by the caller of `train()`."""

    def on_evaluate_start(self, *, algorithm: Algorithm) -> None:
        """Evaluation episodes are about to begin."""

    def on_evaluate_end(self, *, algorithm: Algorithm, result: dict[str, float]) -> None:
        """Evaluation is over."""

    def on_checkpoint_saved(self, *, algorithm: Algorithm, path: Location) -> None:
        """A checkpoint is on disk; of one written in the background, at the end of the iteration after that."""

    def on_checkpoint_loaded(self, *, algorithm: Algorithm, path: Location) -> None:
        """A checkpoint was restored."""

    def on_algorithm_stop(self, *, algorithm: Algorithm) -> None:
        """`stop` was called; the envs are still open."""


class CallbackList:
    """Calls each of several callbacks, and knows which events anybody listens to."""

    def __init__(self, given: Any) -> None:
        """Make instances of the classes.

        Args:
            given: None, or a class derived from Callbacks or an instance, or a tuple of those.

        Raises:
            ConfigError: something else, or a method that is called as events are, but by a name that none has.
        """
        members = () if given is None else given if isinstance(given, tuple) else (given,)
        events = [name for name in vars(Callbacks) if name.startswith("on_")]
        for member in members:
            if not (isinstance(member, Callbacks) or (isinstance(member, type) and issubclass(member, Callbacks))):
                raise ConfigError(f"callbacks_class: got {member!r}, expected a class derived from Callbacks.")
            kind = member if isinstance(member, type) else type(member)
            if strange := [name for name in dir(kind) if name.startswith("on_") and name not in events]:
                hint = nearest(strange[0], events)
                raise ConfigError(f"callbacks_class: {kind.__name__}.{strange[0]} is no event of a run.{hint}")
        self.members = [member() if isinstance(member, type) else member for member in members]

    def listens(self, event: str) -> bool:
        """Whether any member defines the event."""
        return any(getattr(type(member), event) is not getattr(Callbacks, event) for member in self.members)

    def call(self, event: str, **arguments: Any) -> None:
        """Call the event of each member in order."""
        for member in self.members:
            getattr(member, event)(**arguments)
