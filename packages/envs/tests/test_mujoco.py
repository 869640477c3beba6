import gymnasium
import pytest

from rl_core.testing import check_env

pytest.importorskip("mujoco")


@pytest.mark.parametrize("name", ["Hopper-v5", "InvertedPendulum-v5", "Reacher-v5"])
def test_the_extra_brings_what_the_mujoco_envs_need(name):
    env = gymnasium.make(name)
    check_env(env)
    env.close()
