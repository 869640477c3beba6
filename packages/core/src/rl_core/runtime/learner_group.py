"""Learners in other processes behind the protocol of one."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from torch import nn

from rl_core.errors import WorkerError
from rl_core.learning.learner import Metrics, ModuleLearner
from rl_core.metrics import MetricsLogger, mean_of
from rl_core.records import Weights
from rl_core.runtime.learner_actor import Layout, LearnerActor, Update
from rl_core.runtime.packing import pack, unpack
from rl_core.runtime.session import cause_of, connect, require_resources, send_config, wanted_by_learner
from rl_core.sampling.join import require_slots

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig
    from rl_core.sampling.protocol import Runner

START_TIMEOUT_S = 120.0
"""Until all learners must be there."""
PROBE_TIMEOUT_S = 10.0
"""Until a learner that others have lost must show that it lives."""
MAX_FAILURES = 3
"""So many updates in a row may fail before the error ends the run."""
OWN = ("buffer", "num_slots", "num_stored", "generator", "connectors", "kept")
"""What each learner may have of its own in its state; everything else all learners have in common."""


class LearnerGroup:
    """Remote learners, each an actor, that learn from one rollout together.

    Each gets its share of the env slots; they take every optimiser step with the mean of their gradients, so that all
    hold the same weights. One that dies or hangs is replaced, with the state of another.
    """

    def __init__(self, config: AlgorithmConfig, runner: Runner, metrics: MetricsLogger) -> None:
        """Start the learners and wait for them.

        Args:
            config: Of the run.
            runner: That samples; its policies are what is trained.
            metrics: Takes what is logged while they learn.

        Raises:
            ConfigError: Ray is missing, the cluster is too small, or a learner cannot be built.
        """
        settings, runners = config.learners.settings, config.env_runners.settings
        require_slots(runners.num_envs_per_env_runner * max(1, runners.num_env_runners), settings.num_learners)
        self._ray = connect(f"num_learners={settings.num_learners}")
        require_resources(config)
        self._runner, self._metrics = runner, metrics
        self._timeout_s, self._restarts = settings.learner_timeout_s, config.fault_tolerance.settings
        wanted = wanted_by_learner(config)
        actor = self._ray.remote(LearnerActor).options(
            num_cpus=wanted.get("CPU", 0), num_gpus=wanted.get("GPU", 0), max_restarts=0
        )
        self._arguments = self._sources_of(config)
        self._make: Callable[[], Any] = lambda: actor.remote(*self._arguments)
        self.num_restarts = 0
        """Learners that were replaced so far."""
        self._failures = 0
        self._env_steps = 0
        self._asked: list[Any] = []
        self._names: list[str] = []
        self._handles = [self._make() for _ in range(settings.num_learners)]
        try:
            self._call("setup", timeout_s=START_TIMEOUT_S)
            self._meet()
            self._look()
        except BaseException:
            self.close()
            raise

    def _sources_of(self, config: AlgorithmConfig) -> tuple[Any, Any]:
        """What a learner is made of: a config, and what the runner says of itself."""
        layout = Layout(policies=dict(self._runner.policies), layout=self._runner.layout)
        return send_config(config), self._ray.put(layout)

    def _look(self) -> None:
        """See what the learners have learned so far, and which modules there are."""
        self._weights = unpack(self._ray.get(self._handles[0].weights.remote()))
        modules: dict[str, nn.Module] = self._ray.get(self._handles[0].modules.remote())
        self.learners: dict[str, ModuleLearner] = {
            name: RemoteLearner(self, name, module) for name, module in modules.items()
        }

    def _call(self, method: str, *each: list[Any], timeout_s: float | None) -> list[Any]:
        """Call a method of every learner, each with its own arguments, and return the answers in order.

        Raises:
            Exception: what the first of them to fail raised.
            WorkerError: a process is gone, or did not answer in time.
        """
        arguments = zip(*each, strict=True) if each else [()] * len(self._handles)
        refs = self._asked = [
            getattr(handle, method).remote(*own) for handle, own in zip(self._handles, arguments, strict=True)
        ]
        waiting = list(refs)
        while waiting:
            ready, waiting = self._ray.wait(waiting, timeout=timeout_s)
            if not ready:
                free = {name: amount for name, amount in self._ray.available_resources().items() if ":" not in name}
                raise WorkerError(
                    f"{len(waiting)} of {len(refs)} learners did not answer {method} for {timeout_s:g} s. If other "
                    f"work holds the cluster's resources (free: {free}), wait for it or ask for less."
                )
            try:
                self._ray.get(ready)
            except Exception as error:
                raise cause_of(error) from None
        answers: list[Any] = self._ray.get(refs)
        return answers

    def _meet(self) -> None:
        """Let the learners find each other."""
        size = len(self._handles)
        address = self._ray.get(self._handles[0].open_store.remote())
        limit = self._timeout_s + PROBE_TIMEOUT_S
        self._call("meet", list(range(size)), [size] * size, [address] * size, timeout_s=limit)

    def change(self, config: AlgorithmConfig, function: Callable[[Any, AlgorithmConfig, Layout], None]) -> None:
        """Change which modules there are.

        Args:
            config: What learners are made by from now on.
            function: Called in the process of each learner with what learns there, to change it, with the config, and
                with what the runner says of itself now.

        Raises:
            Exception: what the function raised.
        """
        self._arguments = self._sources_of(config)
        sent, layout = self._arguments
        size = len(self._handles)
        self._call("change", [sent] * size, [layout] * size, [function] * size, timeout_s=START_TIMEOUT_S)
        self._meet()
        self._look()

    def update(self, rollout: Any) -> Metrics:
        """Learn from one rollout, each learner from its share.

        Returns:
            Means over the learners; NaN if one of them was lost and replaced.

        Raises:
            NonFiniteError: see `Learner.update`.
            WorkerError: a learner was lost and may not be replaced, or was lost again and again.
        """
        parts = [pack(part).joined() for part in self._runner.split(rollout, len(self._handles))]
        try:
            # Several learners wait for each other, and tell when one is missing.
            limit = None if len(parts) > 1 else self._timeout_s
            updates: list[Update] = [unpack(answer) for answer in self._call("update", parts, timeout_s=limit)]
        except WorkerError as error:
            self._recover(error)
            return self._complete({})
        self._failures = 0
        self._env_steps += rollout.env_steps
        self._weights = updates[0].weights
        for update in updates:
            self._metrics.merge(update.logged)
        return self._complete(mean_of([update.metrics for update in updates]))

    def _complete(self, metrics: Metrics) -> Metrics:
        """Add the names that were there before as NaN, and the number of restarts."""
        self._names = list(dict.fromkeys([*self._names, *metrics]))
        return {**dict.fromkeys(self._names, math.nan), **metrics, "learner/num_restarts": self.num_restarts}

    def _recover(self, error: WorkerError) -> None:
        """Replace the learners that are gone and go on with the state of one that is left.

        Raises:
            WorkerError: the error, if that is not allowed or did not help.
        """
        self._failures += 1
        if not self._restarts.restart_failed_learners or self._failures >= MAX_FAILURES:
            raise error
        pings = [handle.ping.remote() for handle in self._handles]
        alive, _ = self._ray.wait(pings, num_returns=len(pings), timeout=PROBE_TIMEOUT_S)
        states: dict[int, dict[str, Any]] = {}
        lost = []
        for place, (ping, asked) in enumerate(zip(pings, self._asked, strict=True)):
            with suppress(Exception):
                self._ray.get(asked, timeout=0)  # else Ray prints that nobody looked at its error
            try:
                if ping not in alive:
                    raise WorkerError("It did not answer.")
                self._ray.get(ping)
                states[place] = unpack(self._ray.get(self._handles[place].get_state.remote(list(self.learners))))
            except Exception:  # Ray's word that the process is gone, or ours
                self._ray.kill(self._handles[place], no_restart=True)
                lost.append(place)
        self.num_restarts += len(lost)
        warnings.warn(f"{len(lost)} of {len(pings)} learners are replaced: {error}", stacklevel=3)
        for place in lost:
            self._handles[place] = self._make()
        self._ray.get([self._handles[place].setup.remote() for place in lost])
        if states:
            first = next(iter(states.values()))
            every = [states.get(place, first) for place in range(len(self._handles))]
            state = {
                name: {**own, "learner": _joined([each[name]["learner"] for each in every])}
                for name, own in first.items()
            }
        else:
            parts = {"default": self._weights} if isinstance(self._weights, Weights) else self._weights
            state = {
                name: {
                    "tensors": {**self.learners[name].module.state_dict(), **part.tensors},
                    "counters": (part.version, self._env_steps),
                }
                for name, part in parts.items()
            }
        self.set_state(state)
        self._meet()

    def weights(self) -> Any:
        """The newest weights."""
        return self._weights

    def get_state(self, name: str) -> dict[str, Any]:
        """Return the state of a module's learners: that of the first, and what the others have of their own."""
        first, *others = self._handles
        refs = [first.get_state.remote([name]), *(handle.get_state.remote([name], OWN) for handle in others)]
        return _joined([unpack(state)[name]["learner"] for state in self._ray.get(refs)])

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Give all learners the state of some modules.

        Raises:
            CheckpointError: it does not fit.
        """
        size = len(self._handles)
        shares = [{name: _share(own, place, size) for name, own in state.items()} for place in range(size)]
        each = [pack(share).joined() for share in shares]
        self._call("set_state", each, timeout_s=START_TIMEOUT_S)
        counts = [own["learner"]["env_steps"] for own in state.values() if "learner" in own]
        self._env_steps = max(counts, default=self._env_steps)
        self._weights = unpack(self._ray.get(self._handles[0].weights.remote()))

    def close(self) -> None:
        """End all processes."""
        for handle in self._handles:
            self._ray.kill(handle, no_restart=True)
        self._handles = []


class RemoteLearner:
    """The learners of one module, as checkpoints see them."""

    def __init__(self, group: LearnerGroup, name: str, module: nn.Module) -> None:
        """Stand for the module's learners in the group.

        Args:
            group: Of all modules.
            name: Id of the module.
            module: A copy; what is loaded into it is passed on when `set_state` is called.
        """
        self._group, self._name = group, name
        self._module = module
        self.on_update_end: Callable[[Any, Metrics], None] | None = None

    @property
    def module(self) -> nn.Module:
        """The copy."""
        return self._module

    def weights(self) -> Weights:
        """The newest weights of the module."""
        weights = self._group.weights()
        part: Weights = weights if isinstance(weights, Weights) else weights[self._name]
        return part

    def get_state(self) -> dict[str, Any]:
        """Return everything but the published weights that the next update depends on."""
        return self._group.get_state(self._name)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Give all learners of the module what was loaded into `module`, and a state.

        Raises:
            CheckpointError: it does not fit.
        """
        self._group.set_state({self._name: {"tensors": dict(self._module.state_dict()), "learner": dict(state)}})


def _joined(states: list[dict[str, Any]]) -> dict[str, Any]:
    """Put together the states of a module's learners: that of the first, and what each has of its own."""
    first = states[0]
    if len(states) == 1:
        return first
    shares = [{key: state[key] for key in OWN if key in state} for state in states]
    return {**first, **({"buffer": None} if "buffer" in first else {}), "shares": shares}


def _share(own: Mapping[str, Any], place: int, size: int) -> dict[str, Any]:
    """What one of several learners is given of a module's state; of other learners' data nothing is of use."""
    if "learner" not in own:
        return dict(own)
    learner = dict(own["learner"])
    shares = learner.pop("shares", [learner])  # the state of one learner has all of it
    if len(shares) == size:
        return {**own, "learner": learner | shares[place]}
    nothing: dict[str, Any] = {"buffer": None, "kept": []}  # it is filled again before learning goes on
    return {**own, "learner": learner | {key: value for key, value in nothing.items() if key in learner}}
