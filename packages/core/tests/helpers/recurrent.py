"""A recurrent module as a user would write it, and runners with recurrent modules in any autoreset mode."""

import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_core import ModelSettings, RLModule
from rl_core.connect.required import ActionToEnv
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.module.spec import ModuleSpec
from rl_core.policy import Policy, with_required_connector
from rl_core.sampling.env_runner import EnvRunner

MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED]


class GatedModule(RLModule):
    """Policy and value function on one gated cell, whose state does not begin at zero, and a clock."""

    def __init__(self, observation_space, action_space, *, size=6, max_seq_len=4):
        super().__init__(observation_space, action_space)
        self.max_seq_len = max_seq_len
        self.cell = torch.nn.GRUCell(observation_space.shape[0], size)
        self.policy = torch.nn.Linear(size, self.distribution.num_inputs)
        self.value = torch.nn.Linear(size, 1)
        self.register_buffer("start", torch.linspace(-1.0, 1.0, size))

    def initial_state(self, batch_size):
        return {"hidden": self.start.repeat(batch_size, 1), "clock": (torch.zeros(batch_size),)}

    def _step(self, obs, state):
        hidden = self.cell(torch.tanh(obs / 4), state["hidden"])
        return hidden, {"hidden": hidden, "clock": (state["clock"][0] + 1,)}

    def forward_policy(self, obs, state):
        hidden, state = self._step(obs, state)
        return self.policy(hidden), state

    def forward_value(self, obs, state=()):
        return self.value(self._step(obs, state)[0]).squeeze(-1)

    def forward_train(self, obs, state=()):
        outputs = []
        for row in obs:
            hidden, state = self._step(row, state)
            outputs.append(hidden)
        hidden = torch.stack(outputs)
        return self.policy(hidden), self.value(hidden).squeeze(-1)


def default_spec(**settings):
    sizes = {"fcnet_hiddens": (5,), "lstm_cell_size": 6, "attention_dim": 6, "attention_window": 3, "max_seq_len": 4}
    return ModuleSpec(model_config=ModelSettings(**sizes, policy_head_gain=1.0, **settings))


SPECS = {
    "own": ModuleSpec(module_class=GatedModule, model_config={}),
    "lstm": default_spec(use_lstm=True),
    "lstm apart": default_spec(use_lstm=True, vf_share_layers=False),
    "gru": default_spec(use_gru=True),
    "attention": default_spec(use_attention=True, attention_num_layers=2),
}


def make_recurrent_runner(env, spec, mode, *, num_envs=3, num_steps=11, seed=5):
    """A runner whose weights are drawn away from the start, so that memory matters."""
    vector_env = GymVectorEnv(SyncVectorEnv([env] * num_envs, autoreset_mode=mode))
    spaces = (vector_env.observation_space, vector_env.action_space)
    policy = Policy(
        spec,
        *spaces,
        obs_connectors=with_required_connector(spec, *spaces, ()),
        action_connectors=[ActionToEnv()],
    )
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.module.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return EnvRunner(vector_env, policy, num_steps=num_steps, seed=seed)
