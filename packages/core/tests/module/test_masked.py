import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.module.discrete import Categorical
from rl_core.module.masked import MaskedActorCritic, mask_logits
from rl_core.testing.check_module import check_module

ACTION = spaces.Discrete(6)
MASK = spaces.MultiBinary(6)
VECTOR = spaces.Box(-1, 1, (4,))
IMAGE = spaces.Box(0, 255, (8, 8, 1), np.uint8)


def space(observations=VECTOR, mask=MASK):
    return spaces.Dict(observations=observations, action_mask=mask)


def test_masking_is_the_distribution_over_what_is_allowed():
    logits, mask = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1, 0, 1, 0], dtype=torch.int8)
    masked, distribution = mask_logits(logits, mask), Categorical(4)
    allowed = torch.tensor([1.0, 3.0])
    assert torch.equal(masked.softmax(-1)[[1, 3]], torch.zeros(2))
    torch.testing.assert_close(distribution.entropy(masked), Categorical(2).entropy(allowed))
    torch.testing.assert_close(
        distribution.log_prob(masked, torch.tensor(2)), Categorical(2).log_prob(allowed, torch.tensor(1))
    )
    other = torch.tensor([0.0, 9.0, 1.0, 9.0])
    torch.testing.assert_close(
        distribution.kl(masked, mask_logits(other, mask)), Categorical(2).kl(allowed, torch.tensor([0.0, 1.0]))
    )


@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_everything_are_finite_also_for_forbidden_actions(dtype, scale):
    logits = (scale * torch.randn(5, 4, generator=torch.Generator().manual_seed(0))).to(dtype).requires_grad_()
    mask = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 1, 0]])
    masked, distribution = mask_logits(logits, mask), Categorical(4)
    free = torch.zeros(5, 4, dtype=dtype)
    log_prob = distribution.log_prob(masked, torch.zeros(5, dtype=torch.int64))
    for term in (log_prob, distribution.entropy(masked), distribution.kl(masked, free), distribution.kl(free, masked)):
        assert term.isfinite().all()
        (gradient,) = torch.autograd.grad(term.sum(), logits, retain_graph=True)
        assert gradient.isfinite().all()
        assert not gradient[mask == 0].any()


def test_a_forbidden_action_is_never_sampled():
    mask = torch.tensor([0.0, 1.0, 0.0, 1.0])
    masked = mask_logits(torch.tensor([50.0, 0.0, 50.0, 0.0]), mask).expand(10_000, -1)
    distribution = Categorical(4)
    actions = distribution.sample(masked, distribution.noise((10_000,), torch.Generator().manual_seed(0)))
    assert set(actions.tolist()) == {1, 3}


def test_rows_that_forbid_everything_are_named():
    mask = torch.ones(3, 2)
    mask[1] = 0
    with pytest.raises(ValueError, match=r"1 of 3 rows .*\(rows 1\)"):
        mask_logits(torch.zeros(3, 2), mask)
    with pytest.raises(ValueError, match=r"\[0, 1\], \[2, 0\]"):
        mask_logits(torch.zeros(3, 2, 2), torch.tensor([[[1, 1], [0, 0]], [[1, 0], [1, 0]], [[0, 0], [1, 1]]]))
    with pytest.raises(ValueError, match=r"rows 0, 1, 2, 3, 4, 5, 6, 7, \.\.\."):
        mask_logits(torch.zeros(9, 2), torch.zeros(9, 2))


@pytest.mark.parametrize("model_config", [{}, {"use_lstm": True, "lstm_cell_size": 8}, {"vf_share_layers": True}])
@pytest.mark.parametrize(
    "observations", [VECTOR, IMAGE, spaces.Dict(a=IMAGE, b=VECTOR)], ids=["vector", "image", "nested"]
)
def test_it_conforms(observations, model_config):
    whole = space(observations)
    check_module(MaskedActorCritic(whole, ACTION, **model_config), whole, ACTION)
    assert not MaskedActorCritic.wants_flat(whole)


def test_it_can_be_exported_with_its_mask():
    class Deployed(torch.nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, observations, action_mask):
            obs = {"observations": observations, "action_mask": action_mask}
            return self.module.forward_policy(obs, ())[0]

    module = Deployed(MaskedActorCritic(space(), ACTION))
    obs, mask = torch.rand(3, 4), torch.ones(3, 6, dtype=torch.int8)
    exported = torch.export.export(module, (obs, mask)).module()
    mask[0, 2:] = 0
    assert exported(obs, mask)[0, 2:].max() < -1e30
    torch.testing.assert_close(exported(obs, mask), module(obs, mask))
    mask[1] = 0
    assert exported(obs, mask).isnan().all(1).tolist() == [False, True, False], "a graph cannot refuse"


@pytest.mark.parametrize(
    ("observation", "action", "words"),
    [
        (VECTOR, ACTION, "'observations' and 'action_mask'"),
        (spaces.Dict(observations=VECTOR), ACTION, "'action_mask'"),
        (space(mask=spaces.MultiBinary(5)), ACTION, r"shape \(6,\)"),
        (space(), spaces.MultiDiscrete([2, 4]), "expected Discrete"),
    ],
)
def test_other_spaces_are_refused(observation, action, words):
    with pytest.raises(UnsupportedSpaceError, match=words):
        MaskedActorCritic(observation, action)


def test_unknown_settings_are_refused():
    with pytest.raises(ConfigError, match="fcnet_hiddens"):
        MaskedActorCritic(space(), ACTION, fcnet_hidden=(3,))
