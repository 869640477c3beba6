"""Make environments from what a user may name them by: an id, a class or a function."""

from __future__ import annotations

import copy
import difflib
import functools
import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import DependencyNotInstalled
from gymnasium.vector import VectorEnv as GymnasiumVectorEnv

from rl_core.env.gym_vector import GymVectorEnv, SlotLoopEnv
from rl_core.env.restart import RestartingEnv
from rl_core.env.spaces import check_supported
from rl_core.env.workers import EnvFn, WorkerEnv
from rl_core.errors import EnvError, RLError

VectorizeMode = Literal["sync", "async", "async_shared_memory", "vector_entry_point"]
Wrapper = Callable[[gymnasium.Env[Any, Any]], gymnasium.Env[Any, Any]]
EnvLike = (
    str | type[gymnasium.Env[Any, Any]] | type[GymnasiumVectorEnv[Any, Any, Any]] | Callable[[dict[str, Any]], Any]
)

_PIP = {
    "ale_py": "ale-py",
    "Box2D": '"gymnasium[box2d]"',
    "mujoco": '"gymnasium[mujoco]"',
    "pygame": '"gymnasium[classic-control]"',
    "gymnasium_robotics": "gymnasium-robotics",
    "highway_env": "highway-env",
}
_REGISTERED_BY = {"ALE/": "ale_py", "MiniGrid-": "minigrid", "BabyAI-": "minigrid", "Fetch": "gymnasium_robotics"}


def make_vector_env(
    env: EnvLike,
    *,
    num_envs: int,
    vectorize_mode: VectorizeMode = "sync",
    env_config: Mapping[str, Any] | None = None,
    wrappers: Sequence[Wrapper] = (),
    render_mode: str | None = None,
    restart_failed: bool = False,
) -> GymVectorEnv:
    """Make `num_envs` copies of an env that are stepped together.

    Args:
        env: A registered id, also `"package:Env-v0"` for one that importing the package registers; a
            `gymnasium.Env` class, made with `cls(**env_config)`; or a function that gets the dict `env_config` and
            returns an env. For `"vector_entry_point"`: an id that has one; a `gymnasium.vector.VectorEnv` class, made
            with `cls(num_envs=num_envs, **env_config)`; or a function of `env_config` with the key `num_envs` added.
        num_envs: B, at least 1.
        vectorize_mode: `"sync"` steps the copies in a loop, the fastest for envs that take well below a millisecond;
            `"async"` and `"async_shared_memory"` (for large observations) in worker processes;
            `"vector_entry_point"` uses the env's own vectorised form.
        env_config: Settings of the env. For an id, what `gymnasium.make` takes, such as `max_episode_steps`.
        wrappers: Applied to each copy, the first innermost.
        render_mode: Passed on to the env, for `render()`.
        restart_failed: Make a copy anew that raises in `step` or `reset`, see `RestartingEnv`.

    Raises:
        EnvError: If there is no such env or it cannot be made.
        UnsupportedSpaceError: If its spaces are not supported.
    """
    if num_envs < 1:
        raise EnvError(f"num_envs is {num_envs!r}, expected a whole number >= 1.")
    name = env_name(env)
    if vectorize_mode == "vector_entry_point":
        if wrappers:
            raise EnvError(
                f"{name}: wrappers of single envs cannot be applied with vectorize_mode='vector_entry_point'. Use "
                "'sync', or apply them inside the vector env."
            )
        if restart_failed:
            raise EnvError(
                f"{name}: with vectorize_mode='vector_entry_point' all slots are one env, and none can be made anew "
                "alone. Use 'sync' or 'async', or set restart_failed_sub_environments=False."
            )
        vector_env = _make_vectorised(env, num_envs, _with_render_mode(env_config, render_mode))
    elif vectorize_mode in ("sync", "async", "async_shared_memory"):
        make_slot: EnvFn = functools.partial(_make_slot, env, dict(env_config or {}), tuple(wrappers), render_mode)
        if restart_failed:
            make_slot = functools.partial(RestartingEnv, make_slot)
        with _as_env_error(name):
            if vectorize_mode == "sync":
                vector_env = SlotLoopEnv([make_slot] * num_envs)
            else:
                shared = vectorize_mode == "async_shared_memory"
                vector_env = WorkerEnv([make_slot] * num_envs, shared_memory=shared)
    else:
        raise EnvError(
            f"vectorize_mode is {vectorize_mode!r}, expected 'sync', 'async', 'async_shared_memory' or "
            "'vector_entry_point'."
        )
    try:
        return GymVectorEnv(vector_env, name=name)
    except RLError:
        vector_env.close()
        raise


def make_single_env(
    env: EnvLike, env_config: Mapping[str, Any] | None = None, render_mode: str | None = None
) -> gymnasium.Env[Any, Any]:
    """Make one env; see `make_vector_env` for what `env` may be.

    Raises:
        EnvError: If there is no such env or it cannot be made.
    """
    name, config = env_name(env), _with_render_mode(env_config, render_mode)
    with _as_env_error(name, env):
        made: object
        if isinstance(env, str):
            # `rl_core.env.check.check_env` checks once and better; the runner keeps the order of reset and step.
            spec = copy.copy(_find_spec(env))
            spec.order_enforce = False
            made = gymnasium.make(spec, disable_env_checker=True, **config)
        elif isinstance(env, type) and issubclass(env, gymnasium.Env):
            made = env(**config)
        elif isinstance(env, type | gymnasium.Env | GymnasiumVectorEnv) or not callable(env):
            raise EnvError(_not_an_env(env))
        else:
            made = env(config)
    if isinstance(made, GymnasiumVectorEnv):
        made.close()
        raise EnvError(f"{name} made a vector env. Set vectorize_mode='vector_entry_point' to use it as one.")
    if not isinstance(made, gymnasium.Env):
        hint = "Envs of the old gym package can be converted with the package shimmy."
        if hasattr(made, "possible_agents"):
            hint = "It is for several agents: give the config the extension that plays them, with config.use(...)."
        raise EnvError(f"{name} made a {type(made).__module__}.{type(made).__name__}, expected a gymnasium.Env. {hint}")
    return made


def env_name(env: object) -> str:
    """What messages call an env."""
    return env if isinstance(env, str) else getattr(env, "__qualname__", None) or type(env).__name__


def _make_slot(
    env: EnvLike, env_config: dict[str, Any], wrappers: Sequence[Wrapper], render_mode: str | None
) -> gymnasium.Env[Any, Any]:
    slot = make_single_env(env, env_config, render_mode)
    for wrapper in wrappers:
        slot = wrapper(slot)
    check_supported(slot.observation_space, f"{env_name(env)}: observation_space")
    check_supported(slot.action_space, f"{env_name(env)}: action_space")
    return slot


def _make_vectorised(env: EnvLike, num_envs: int, config: dict[str, Any]) -> GymnasiumVectorEnv[Any, Any, Any]:
    name = env_name(env)
    with _as_env_error(name, env):
        made: object
        if isinstance(env, str):
            spec = _find_spec(env)
            if spec.vector_entry_point is None:
                having = [id_ for id_, other in gymnasium.registry.items() if other.vector_entry_point is not None]
                raise EnvError(
                    f"{name} has no vectorised form of its own (vector_entry_point); registered envs that have one: "
                    f"{', '.join(sorted(having))}. Use vectorize_mode='sync', or 'async' for slow envs."
                )
            made = gymnasium.make_vec(spec, num_envs=num_envs, vectorization_mode="vector_entry_point", **config)
        elif isinstance(env, type) and issubclass(env, GymnasiumVectorEnv):
            vector_class: Callable[..., object] = env
            made = vector_class(num_envs=num_envs, **config)
        elif isinstance(env, type | gymnasium.Env | GymnasiumVectorEnv) or not callable(env):
            raise EnvError(
                f"{name} is not a vectorised env. With vectorize_mode='vector_entry_point' give an id that has one, a "
                "gymnasium.vector.VectorEnv class, or a function that returns one; else use vectorize_mode='sync'."
            )
        else:
            made = env({**config, "num_envs": num_envs})
    if not isinstance(made, GymnasiumVectorEnv):
        raise EnvError(f"{name} made a {type(made).__name__}, expected a gymnasium.vector.VectorEnv.")
    if getattr(made, "num_envs", num_envs) != num_envs:
        raise EnvError(
            f"{name} made a vector env of {made.num_envs} slots, expected {num_envs}. A function finds the number "
            "under the key 'num_envs' of its argument."
        )
    return made


def _find_spec(env_id: str) -> EnvSpec:
    """The registered spec, exactly by its id: results of two versions of an env are not comparable."""
    package, _, bare_id = env_id.rpartition(":")
    if package:
        importlib.import_module(package)
    spec = gymnasium.registry.get(bare_id)
    if spec is not None:
        return spec
    versions = [known for known in gymnasium.registry if re.fullmatch(re.escape(bare_id) + r"-v\d+", known)]
    known_names = {known.lower(): known for known in gymnasium.registry}
    nearest = versions or [
        known_names[n] for n in difflib.get_close_matches(bare_id.lower(), known_names, n=3, cutoff=0.6)
    ]
    package = next((module for prefix, module in _REGISTERED_BY.items() if bare_id.startswith(prefix)), "")
    raise EnvError(
        f"No env with the id {bare_id!r} is registered."
        + (f" Nearest: {', '.join(nearest)}." if nearest else "")
        + " If a package registers it, import the package before, or name both: "
        + f"'{package or 'package'}:{bare_id}'{f' (pip install {_PIP.get(package, package)})' if package else ''}."
    )


def _with_render_mode(env_config: Mapping[str, Any] | None, render_mode: str | None) -> dict[str, Any]:
    return {**(env_config or {}), **({"render_mode": render_mode} if render_mode is not None else {})}


def _not_an_env(env: object) -> str:
    if isinstance(env, gymnasium.Env | GymnasiumVectorEnv):
        return (
            f"Got an env object ({type(env).__name__}), which cannot be copied into slots. Give its class, or a "
            "function that makes it: `lambda config: MyEnv(config)`."
        )
    if isinstance(env, type) and issubclass(env, GymnasiumVectorEnv):
        return f"{env.__qualname__} is a vector env class. Set vectorize_mode='vector_entry_point' to use it."
    return f"Got {env!r}, expected a registered id, a gymnasium.Env class, or a function of the env config."


@contextmanager
def _as_env_error(name: str, env: object = None) -> Iterator[None]:
    """Turn whatever making an env raises into an EnvError that says what to do."""
    try:
        yield
    except RLError:
        raise
    except (ImportError, DependencyNotInstalled) as error:
        missing = (getattr(error, "name", None) or "").partition(".")[0]
        install = "" if "pip install" in str(error) else f" Install it: pip install {_PIP.get(missing, missing)}."
        raise EnvError(
            f"{name} needs a package that cannot be imported: {error}{install if missing else ''}"
        ) from error
    except Exception as error:
        hint = ""
        if isinstance(error, TypeError) and isinstance(env, type):
            hint = (
                " A class is made with cls(**env_config); if its __init__ takes one dict instead, give a function: "
                f"`lambda config: {name}(config)`."
            )
        elif isinstance(error, TypeError) and callable(env):
            hint = " A function is called with one argument, the dict env_config."
        raise EnvError(f"{name} could not be made: {type(error).__name__}: {error}{hint}") from error
