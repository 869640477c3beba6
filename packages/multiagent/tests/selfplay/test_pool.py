"""Frozen copies stay as they were, whatever their originals go on to do."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete

from rl_core import ModelSettings, Policy, Weights
from rl_core.checkpoint import Checkpoint, save_checkpoint
from rl_core.connect.required import ActionToEnv
from rl_core.errors import ConfigError
from rl_core.module.spec import ModuleSpec
from rl_multiagent.selfplay import PolicyPool, frozen_copy


def make_policy(seed=0):
    return Policy(
        ModuleSpec(model_config=ModelSettings(fcnet_hiddens=(8,))),
        Box(-1, 1, (3,)),
        Discrete(4),
        action_connectors=[ActionToEnv()],
        seed=seed,
    )


def logits(policy):
    obs = torch.linspace(-1, 1, 15).reshape(5, 3)
    return policy.module.forward_policy(obs, ())[0]


def learn(policy, version):
    tensors = {name: tensor + 0.1 for name, tensor in policy.module.state_dict().items()}
    policy.set_weights(Weights(version=version, tensors=tensors, connector_state=()))


def test_a_frozen_copy_keeps_weights_and_version():
    policy = make_policy()
    learn(policy, 3)
    before = logits(policy)
    copy = frozen_copy(policy)
    learn(policy, 4)
    assert (logits(copy) == before).all()
    assert not (logits(policy) == before).all()
    assert (copy.version, policy.version) == (3, 4)
    assert not any(parameter.requires_grad for parameter in copy.module.parameters())


def test_copies_are_numbered_and_numbers_do_not_come_back():
    pool, policy = PolicyPool(), make_policy()
    assert [pool.freeze("main", policy), pool.freeze("main", policy), pool.freeze("exploiter", policy)] == [
        "main_v1",
        "main_v2",
        "exploiter_v1",
    ]
    pool.remove("main_v2")
    assert pool.freeze("main", policy) == "main_v3"
    assert list(pool) == ["main_v1", "exploiter_v1", "main_v3"]
    assert len(pool) == 3


def test_a_pool_goes_through_a_checkpoint(tmp_path):
    pool, policy = PolicyPool(), make_policy()
    for version in (1, 2):
        learn(policy, version)
        pool.freeze("main", policy)
    path = save_checkpoint(tmp_path / "checkpoint", {"pool": pool.get_state()})
    again = PolicyPool()
    again.set_state(Checkpoint(path).load("pool"))
    assert {name: part.version for name, part in again.items()} == {"main_v1": 1, "main_v2": 2}
    for name, part in again.items():
        assert (logits(part) == logits(pool[name])).all()
        assert np.array_equal(part.act(np.zeros(3, np.float32))[0], pool[name].act(np.zeros(3, np.float32))[0])
    assert again.freeze("main", policy) == "main_v3"


def test_an_id_is_given_once():
    pool = PolicyPool()
    pool.put("main_v1", make_policy())
    with pytest.raises(ConfigError, match="'main_v1' already"):
        pool.put("main_v1", make_policy())
    with pytest.raises(ConfigError, match="'main_v1' already"):
        pool.freeze("main", make_policy())
    with pytest.raises(KeyError):
        pool["main_v2"]
