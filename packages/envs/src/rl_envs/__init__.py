"""Small envs for gymnasium whose best and random returns are known; importing the package registers their ids."""

from gymnasium.envs.registration import register

from rl_envs.action_mask import ActionMaskEnv
from rl_envs.cart_pole import (
    HeavyCartPole,
    HeavyCartPoleVector,
    StatelessCartPole,
    StatelessCartPoleVector,
    TruncatedCartPole,
    TruncatedCartPoleVector,
)
from rl_envs.correlated_actions import CorrelatedActionsEnv
from rl_envs.corridor import SimpleCorridor
from rl_envs.faulty import Faulty, InjectedCrashError
from rl_envs.lopsided_pendulum import LopsidedPendulum
from rl_envs.nested_cart_pole import DictCartPole
from rl_envs.repeat_after_me import RepeatAfterMe

__all__ = [
    "ActionMaskEnv",
    "CorrelatedActionsEnv",
    "DictCartPole",
    "Faulty",
    "HeavyCartPole",
    "HeavyCartPoleVector",
    "InjectedCrashError",
    "LopsidedPendulum",
    "RepeatAfterMe",
    "SimpleCorridor",
    "StatelessCartPole",
    "StatelessCartPoleVector",
    "TruncatedCartPole",
    "TruncatedCartPoleVector",
]

# Every env limits its episodes itself, so that its class is the same env as its id: no `max_episode_steps` here.
for _env in (StatelessCartPole, HeavyCartPole, TruncatedCartPole):
    _path = f"{_env.__module__}:{_env.__name__}"
    register(f"rl_envs/{_env.__name__}-v0", entry_point=_path, vector_entry_point=f"{_path}Vector")
register("rl_envs/ActionMask-v0", entry_point="rl_envs.action_mask:ActionMaskEnv")
register("rl_envs/CorrelatedActions-v0", entry_point="rl_envs.correlated_actions:CorrelatedActionsEnv")
register("rl_envs/RepeatAfterMe-v0", entry_point="rl_envs.repeat_after_me:RepeatAfterMe")
register("rl_envs/SimpleCorridor-v0", entry_point="rl_envs.corridor:SimpleCorridor")
register("rl_envs/DictCartPole-v0", entry_point="rl_envs.nested_cart_pole:DictCartPole")
register("rl_envs/LopsidedPendulum-v0", entry_point="rl_envs.lopsided_pendulum:LopsidedPendulum")
