"""The process of a remote learner."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from rl_core.algorithm.callbacks import CallbackList
from rl_core.algorithm.components import Updater, listen_to_learners
from rl_core.errors import ConfigError
from rl_core.learning.learner import Metrics
from rl_core.learning.peers import Peers
from rl_core.metrics import MetricsLogger, logging_to
from rl_core.policy import Policy, load_tensors
from rl_core.runtime.packing import Bytes, pack, unpack
from rl_core.sampling.protocol import Runner

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a learner is built from, besides the config: what it asks of a runner."""

    policies: Mapping[str, Policy]
    """By id."""
    layout: Any
    """The runner's word about its env."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What a remote learner says after an update."""

    metrics: Metrics
    weights: Any
    """As the learner publishes them; None of all learners but the first, whose weights are the same."""
    logged: Mapping[str, Any]
    """What was logged in it: `MetricsLogger.take`."""


class LearnerActor:
    """Holds the learners of all modules; Ray makes an actor of it."""

    def __init__(self, config: AlgorithmConfig, sources: Layout) -> None:
        """Remember what to build."""
        self._config, self._sources = config, sources
        self._updater: Updater | None = None
        self._metrics = MetricsLogger()
        self._peers: Peers | None = None
        self._rank = 0

    def setup(self) -> None:
        """Build the learners; here and not in the constructor, so that what goes wrong arrives as it is.

        Raises:
            ConfigError: one cannot learn together with others.
        """
        settings = self._config.learners.settings
        torch.set_num_threads(max(1, int(settings.num_cpus_per_learner)))
        self._updater = self._config.components().learner(self._config, cast(Runner, self._sources))
        self._look()

    def change(
        self, config: AlgorithmConfig, sources: Layout, function: Callable[[Any, AlgorithmConfig, Layout], None]
    ) -> None:
        """Change which modules there are; `meet` comes next. See `LearnerGroup.change`."""
        self._config, self._sources = config, sources
        function(self.updater, config, sources)
        self._look()

    def _look(self) -> None:
        """See which learners there are, and listen to them.

        Raises:
            ConfigError: one cannot learn together with others.
        """
        self._learners = dict(cast(Mapping[str, Any], self.updater.learners))
        alone = [name for name, learner in self._learners.items() if not hasattr(learner, "backward")]
        if alone:
            raise ConfigError(
                f"num_learners={self._config.learners.settings.num_learners}: the learner of {', '.join(alone)} cannot "
                "share its work with others. Set num_learners=0."
            )
        callbacks = CallbackList(self._config.callbacks.settings.callbacks_class)
        listen_to_learners(self.updater, callbacks, self._metrics)

    def modules(self) -> dict[str, nn.Module]:
        """Return what is trained, by id; it arrives as copies."""
        return {name: learner.module for name, learner in self._learners.items()}

    @property
    def updater(self) -> Updater:
        """What learns."""
        assert self._updater is not None, "setup comes first"
        return self._updater

    def open_store(self) -> tuple[str, int]:
        """Open the place where learners meet; returns its address."""
        import ray

        host: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._store = TCPStore(host, 0, is_master=True, wait_for_workers=False)
        return host, self._store.port

    def meet(self, rank: int, size: int, address: tuple[str, int]) -> None:
        """Learn together with others from now on.

        Args:
            rank: Which of them this one is; the first one has opened the store.
            size: How many there are.
            address: Of the store.

        Raises:
            PeerLostError: they did not all come.
        """
        self.leave()
        self._rank = rank
        store = self._store if rank == 0 else TCPStore(*address, is_master=False)
        learners = self._learners.values()
        device = next(parameter.device for learner in learners for parameter in learner.module.parameters())
        timeout_s = self._config.learners.settings.learner_timeout_s
        self._peers = Peers(store, rank=rank, size=size, device=device, timeout_s=timeout_s)
        for learner in learners:
            learner.backward.join(self._peers)

    def leave(self) -> None:
        """Part from the others."""
        if self._peers is not None:
            self._peers.leave()
            self._peers = None

    def update(self, share: Bytes) -> Bytes:
        """Learn from this learner's share of a rollout, packed; returns a packed `Update`.

        Raises:
            PeerLostError: another learner died or hung.
            NonFiniteError: see `Learner.update`.
        """
        with logging_to(self._metrics):
            metrics = self.updater.update(unpack(share))
        weights = self.updater.weights() if self._rank == 0 else None
        return pack(Update(metrics=metrics, weights=weights, logged=self._metrics.take())).joined()

    def get_state(self, names: Sequence[str], keys: Collection[str] | None = None) -> Bytes:
        """Return the state of some modules' learners, packed: all with the modules' tensors, or some of its entries."""
        states = {name: self._learners[name].get_state() for name in names}
        if keys is not None:
            own = {name: {key: part for key, part in state.items() if key in keys} for name, state in states.items()}
            return pack({name: {"learner": state} for name, state in own.items()}).joined()
        modules = {name: dict(self._learners[name].module.state_dict()) for name in names}
        return pack({name: {"tensors": modules[name], "learner": states[name]} for name in names}).joined()

    def set_state(self, state: Bytes) -> None:
        """Take back what `get_state` gave; without the learner's part, only weights and `counters`.

        Raises:
            CheckpointError: it does not fit.
        """
        for name, own in unpack(state).items():
            learner = self._learners[name]
            load_tensors(learner.module, own["tensors"], what=f"learner {name!r}")
            if "learner" in own:
                learner.set_state(own["learner"])
            else:
                learner.version, learner.env_steps = own["counters"]

    def weights(self) -> Bytes:
        """Publish the newest weights, packed."""
        return pack(self.updater.weights()).joined()

    def ping(self) -> None:
        """Show that the process lives."""
