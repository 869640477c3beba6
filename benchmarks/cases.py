"""What is measured: the contestants of each measurement, and the figure they are compared by."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

PACKAGES = {
    "ours": ("rl_core",),
    "sb3": ("stable_baselines3",),
    "rllib": ("ray",),
    "bare": ("torch", "gymnasium"),
}
"""Contestant -> import packages it needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A kind of figure, and how to judge it."""

    name: str
    """Name of the function in the contestants' modules."""
    value: str
    """The figure contestants are compared by."""
    better: Literal["higher", "lower"]
    """Which way is better."""
    columns: tuple[str, ...]
    """Further figures shown in the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line of a table: a contestant at one setting."""

    contestant: str
    """Key of `PACKAGES`."""
    group: str
    """Cases are compared within their group, for example `8 envs, sync`."""
    variant: str = ""
    """Tells cases of one contestant apart, for example whose settings it has."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Fields of `benchmarks.work.Work` that differ from their defaults."""

    @property
    def label(self) -> str:
        """Contestant and variant."""
        return f"{self.contestant} {self.variant}".strip()


MEASUREMENTS = {
    "loop": Measurement(name="loop", value="env_steps_per_s", better="higher", columns=("cpu_share",)),
    "sampling": Measurement(name="sampling", value="env_steps_per_s", better="higher", columns=("cpu_share",)),
    "learn": Measurement(name="learn", value="seconds", better="lower", columns=("env_steps", "reached")),
    "dqn": Measurement(name="dqn", value="env_steps_per_s", better="higher", columns=("cpu_share",)),
    "sac": Measurement(name="sac", value="env_steps_per_s", better="higher", columns=("cpu_share",)),
    "pong": Measurement(name="pong", value="env_steps_per_s", better="higher", columns=("cpu_share",)),
    "pong_sampling": Measurement(
        name="pong_sampling", value="env_steps_per_s", better="higher", columns=("cpu_share",)
    ),
    **{
        name: Measurement(name=name, value="env_steps_per_s", better="higher", columns=("cpu_share",))
        for name in ("remote_sampling", "remote_loop", "slow_env")
    },
    "crossing": Measurement(name="crossing", value="ms", better="lower", columns=("sample_ms",)),
    "recovery": Measurement(
        name="recovery", value="seconds", better="lower", columns=("slowest_s", "longest_iteration_s")
    ),
    "beside": Measurement(name="beside", value="share", better="lower", columns=("auto_share", "iteration_s")),
    "saving": Measurement(
        name="saving",
        value="ms",
        better="lower",
        columns=("size_share", "thread_ms", "iteration_ms", "iteration_share"),
    ),
    "recurrent": Measurement(name="recurrent", value="env_steps_per_s", better="higher", columns=("num_parameters",)),
    "connectors": Measurement(
        name="connectors",
        value="share",
        better="lower",
        columns=("env_steps_per_s", "without_per_s", "bytes_share"),
    ),
    "multiagent": Measurement(
        name="multiagent", value="env_steps_per_s", better="higher", columns=("cpu_share", "episode_return_mean")
    ),
    "agents": Measurement(name="agents", value="share", better="higher", columns=("agent_steps_per_s", "alone_per_s")),
    "replay": Measurement(name="replay", value="microseconds", better="lower", columns=()),
    "act": Measurement(name="act", value="microseconds", better="lower", columns=()),
    "startup": Measurement(
        name="startup",
        value="ready_s",
        better="lower",
        columns=("import_s", "first_iteration_s", "memory_mib", "modules", "needless_after_iteration"),
    ),
}

BARELY = 1e-9
"""A learning rate at which all work is done and policies stay random: agents of all contestants live equally long."""


def _case(contestant: str, group: str, variant: str = "", **settings: Any) -> Case:
    """Make a case."""
    return Case(contestant=contestant, group=group, variant=variant, settings=settings)


def _remote(*contestants: str, variant: str = "ppo") -> Iterator[Case]:
    """Yield cases of two runners of 8 envs, on a sync vector env and on CartPole's vectorised form."""
    for name, vector in (("sync", "sync"), ("vector", "vector_entry_point")):
        for contestant in contestants:
            settings = {"num_runners": 2, "vector": vector, "algorithm": variant}
            label = "" if variant == "ppo" else variant
            yield Case(contestant=contestant, group=f"2 runners of 8 envs, {name}", variant=label, settings=settings)


_PONG = "8 envs x 128"
CASES = {
    "learn": [
        _case("ours", "to 475", "defaults"),
        _case("sb3", "to 475", "zoo"),
        _case("ours", "to 475", "tuned", tuned_settings=True),
    ],
    "dqn": [_case(name, "CartPole, batch 64, 4 env steps per gradient step") for name in ("ours", "sb3", "bare")],
    "sac": [_case(name, "Pendulum, batch 256, 1 env step per gradient step") for name in ("ours", "sb3", "bare")],
    **{
        name: [_case("ours", _PONG), _case("sb3", _PONG), _case("ours", _PONG, "bfloat16", half=True)]
        for name in ("pong", "pong_sampling")
    },
    "remote_sampling": [*_remote("ours", "rllib")],
    "remote_loop": [*_remote("ours", "rllib"), *_remote("ours", variant="impala"), *_remote("ours", variant="appo")],
    "slow_env": [
        _case("ours", "1 ms per step", f"{runners} runners", num_runners=runners, num_steps=32) for runners in (1, 2)
    ],
    "crossing": [_case("ours", "8 envs x 128")],
    "recovery": [_case(name, "2 runners of 8 envs", num_runners=2) for name in ("ours", "rllib")],
    "beside": [_case("ours", "PPO, one evaluation runner")],
    "saving": [_case("ours", "PPO on CartPole")],
    "recurrent": [_case("ours", "8 envs", "feed-forward"), _case("ours", "8 envs", "LSTM", memory=True)],
    "connectors": [
        _case("ours", f"64 envs, {name}", num_envs=64, vector=vector)
        for name, vector in (("sync", "sync"), ("vector", "vector_entry_point"))
    ],
    "multiagent": [
        _case(name, f"{num_agents} agents, {policies}", num_agents=num_agents, lr=BARELY, shared_policy=shared)
        for policies, peer, shared in (("a policy each", "rllib", False), ("one policy", "sb3", True))
        for num_agents in (2, 8)
        for name in ("ours", peer)
    ],
    "agents": [
        _case("ours", f"{num_agents} agents, {name}", num_agents=num_agents, num_steps=32, vector=vector)
        for name, vector in (("sync", "sync"), ("vector", "vector_entry_point"))
        for num_agents in (10, 100, 1000)
    ],
    "replay": [_case("ours", "one call")],
    "act": [_case("ours", "one call")],
    "startup": [_case(name, "start") for name in ("ours", "sb3", "rllib")],
}
"""The cases of each measurement but the throughput of sampling and of PPO's loop."""


def cases(measurement: str) -> Iterator[Case]:
    """Yield the cases of ``measurement``, contestants in turn, so that a change of the machine's mood hits all."""
    if measurement in CASES:
        yield from CASES[measurement]
    elif measurement == "loop":
        yield from _throughput(8, vector=True)
    else:
        yield from _throughput(1, vector=False)
        yield from _throughput(8, vector=False)
        yield from _throughput(64, vector=True)


def _throughput(num_envs: int, *, vector: bool) -> Iterator[Case]:
    """Yield everyone on a sync vector env, and those that take it on CartPole's vectorised form if ``vector``.

    The two are groups of their own: a ratio across them would compare envs, not libraries.
    """
    size = "1 env" if num_envs == 1 else f"{num_envs} envs"
    for name in PACKAGES:
        yield Case(contestant=name, group=f"{size}, sync", settings={"num_envs": num_envs})
    if vector:
        settings = {"num_envs": num_envs, "vector": "vector_entry_point"}
        for name in ("ours", "rllib", "bare"):
            yield Case(contestant=name, group=f"{size}, vector", settings=settings)


def missing_packages(contestants: list[str]) -> list[str]:
    """Return the packages that ``contestants`` need and that are not installed."""
    needed = [package for name in contestants for package in PACKAGES[name]]
    return [package for package in needed if importlib.util.find_spec(package) is None]
