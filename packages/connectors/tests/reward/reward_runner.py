"""An env runner with reward pieces, over small envs in every autoreset mode."""

from gymnasium.vector import SyncVectorEnv

from rl_core import EnvRunner, ModelSettings, Policy
from rl_core.connect.required import ActionToEnv
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.module.spec import ModuleSpec

SPEC = ModuleSpec(model_config=ModelSettings(fcnet_hiddens=(4,)))


def make_runner(make_env, mode, pieces, *, num_envs=3, num_steps=60):
    env = GymVectorEnv(SyncVectorEnv([make_env] * num_envs, autoreset_mode=mode))
    spaces = (env.observation_space, env.action_space)
    policy = Policy(SPEC, *spaces, obs_connectors=pieces, action_connectors=[ActionToEnv()])
    return EnvRunner(env, policy, num_steps=num_steps, seed=5)
