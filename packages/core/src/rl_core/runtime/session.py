"""The connection to Ray: imported only when a config asks for other processes."""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from typing import TYPE_CHECKING, Any

from rl_core.errors import ConfigError, WorkerError

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig


def connect(what: str, *, num_cpus: int | None = None, num_gpus: int | None = None) -> Any:
    """Import Ray and connect to it: to the cluster that `ray.init` or RAY_ADDRESS named, else to one started here.

    Args:
        what: The setting that needs it, for messages.
        num_cpus: Of a cluster that is started here; None takes the machine's.
        num_gpus: The same.

    Raises:
        ConfigError: Ray is not installed.
    """
    require_ray(what)
    import ray

    if not ray.is_initialized():
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 would let whatever else runs here starve the runners
        address = None if "RAY_ADDRESS" in os.environ else "local"  # None might find what another program left behind
        ray.init(
            address=address,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
            include_dashboard=False,
            logging_level=logging.WARNING,
            log_to_driver=False,
        )
    return ray


def require_ray(what: str) -> None:
    """Refuse to go on without Ray.

    Raises:
        ConfigError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"{what} needs Ray, which is not installed. Install rl-core[ray], or do without.")


def start_ray(*, num_cpus: int, num_gpus: int | None = None) -> None:
    """Start a Ray cluster on this machine that takes itself to have so many CPUs, unless there is one already.

    Args:
        num_cpus: Processes share what there really is.
        num_gpus: GPUs that it takes itself to have; None takes the machine's. Without a real one they only decide
            where what runs.

    Raises:
        ConfigError: Ray is not installed.
    """
    connect(f"num_cpus={num_cpus}", num_cpus=num_cpus, num_gpus=num_gpus)


def wanted_by_runner(config: AlgorithmConfig) -> dict[str, float]:
    """What one remote env runner asks for, by Ray's names."""
    runners = config.env_runners.settings
    wanted = {"CPU": runners.num_cpus_per_env_runner, "GPU": runners.num_gpus_per_env_runner}
    return {name: amount for name, amount in (wanted | runners.custom_resources_per_env_runner).items() if amount}


def wanted_by_learner(config: AlgorithmConfig) -> dict[str, float]:
    """What one remote learner asks for, by Ray's names."""
    learners = config.learners.settings
    wanted = {"CPU": learners.num_cpus_per_learner, "GPU": learners.num_gpus_per_learner}
    return {name: amount for name, amount in wanted.items() if amount}


def require_resources(config: AlgorithmConfig) -> None:
    """Refuse to ask for more than the cluster has: Ray would wait for it forever.

    Raises:
        ConfigError: names each resource that does not suffice, who asks for it, and how much there is.
    """
    import ray

    runners, evaluation = config.env_runners.settings.num_env_runners, config.evaluation.settings
    asked = [
        (f"num_env_runners={runners}", runners, wanted_by_runner(config)),
        (
            f"evaluation_num_env_runners={evaluation.evaluation_num_env_runners}",
            evaluation.evaluation_num_env_runners,
            wanted_by_runner(config),
        ),
        (
            f"num_learners={config.learners.settings.num_learners}",
            config.learners.settings.num_learners,
            wanted_by_learner(config),
        ),
    ]
    asked = [(setting, count, each) for setting, count, each in asked if count]
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]
    short = []
    for name in dict.fromkeys(name for _, _, each in asked for name in each):
        needed = sum(count * each.get(name, 0.0) for _, count, each in asked)
        if needed > total.get(name, 0.0) + 1e-9:
            parts = [f"{setting} times {each[name]:g}" for setting, _, each in asked if name in each]
            short.append(f"{needed:g} {name} ({', '.join(parts)}), but the cluster has {total.get(name, 0.0):g}")
    if short:
        raise ConfigError(f"This run needs {'; '.join(short)}. Ask for fewer or for less each, or add nodes.")


def send_config(config: AlgorithmConfig) -> Any:
    """Put a config where all processes can read it.

    Raises:
        ConfigError: something in it cannot be pickled.
    """
    import ray

    for name, value in config.diff().items():
        try:
            ray.cloudpickle.dumps(value)  # type: ignore[no-untyped-call]
        except Exception as error:
            raise ConfigError(
                f"{name}: {value!r} cannot be sent to another process: {error}. Give a class, or a function that "
                "makes what holds open files, locks or connections."
            ) from error
    return ray.put(config)


_FRAME = re.compile(r'File "(.+?)", line (\d+), in (\S+)')
_LIBRARIES = re.compile(r"[/\\]((site|dist)-packages|lib[/\\]python3[^/\\]*|src[/\\]rl_\w+)[/\\]")
"""Where code is not the user's."""


def cause_of(error: BaseException) -> BaseException:
    """Take the exception of the other process out of Ray's wrapping.

    Ray's own exceptions say what happened in their first line.
    """
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return located(cause, str(error))
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return WorkerError(lines[0] if lines else type(error).__name__)


def located(error: BaseException, trace: str) -> BaseException:
    """Add the user's line to an exception of another process, which is raised here as if it had happened here.

    Args:
        error: The exception.
        trace: Of the other process, as Python prints it.
    """
    frames = [frame for frame in _FRAME.findall(trace) if not _LIBRARIES.search(frame[0])]
    if frames:
        path, line, function = frames[-1]
        error.add_note(f"In the other process: {path}, line {line}, in {function}")
    return error
