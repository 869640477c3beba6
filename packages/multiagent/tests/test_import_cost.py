import subprocess
import sys

import pytest

import rl_multiagent


@pytest.mark.parametrize(
    "what", ["from rl_multiagent import MultiAgentEnv, PettingZooEnv, OpenSpielEnv", "env.workers"]
)
def test_a_process_that_only_steps_an_env_does_not_import_torch(what):
    code = what if " " in what else f"import rl_multiagent.{what}"
    subprocess.run([sys.executable, "-c", f"{code}; import sys; assert 'torch' not in sys.modules"], check=True)


def test_every_public_name_is_there():
    assert all(getattr(rl_multiagent, name) for name in rl_multiagent.__all__)
    assert set(rl_multiagent.__all__) <= set(dir(rl_multiagent))
    with pytest.raises(AttributeError, match="'rl_multiagent' has no attribute 'Nobody'"):
        rl_multiagent.Nobody  # noqa: B018
