"""Env runners over small envs."""

from gymnasium.vector import SyncVectorEnv

from rl_core import ModelSettings
from rl_core.connect.required import ActionToEnv
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.env.make import make_vector_env
from rl_core.module.spec import ModuleSpec
from rl_core.policy import Policy, with_required_connector
from rl_core.sampling.env_runner import EnvRunner

SPEC = ModuleSpec(model_config=ModelSettings(fcnet_hiddens=(4,)))
SEED = 5


def vector_env(make, num_envs, mode):
    if mode is None:
        return make_vector_env(lambda config: make(), num_envs=num_envs)
    return GymVectorEnv(SyncVectorEnv([make] * num_envs, autoreset_mode=mode))


def make_runner(
    make, *, num_envs=3, num_steps=7, mode=None, connectors=(), actions=None, spec=SPEC, seed=SEED, **options
):
    env = vector_env(make, num_envs, mode)
    spaces_ = (env.observation_space, env.action_space)
    policy = Policy(
        spec,
        *spaces_,
        obs_connectors=with_required_connector(spec, *spaces_, connectors),
        action_connectors=actions or [ActionToEnv()],
    )
    return EnvRunner(env, policy, num_steps=num_steps, seed=seed, **options)
