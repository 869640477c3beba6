"""The functions in `ops/` against TorchRL: what Stable-Baselines3 lacks, and the gradients of the clipped loss."""

import multiprocessing

import pytest
import torch
from clipped_loss import clipped_loss
from torch import nn

from rl_core.ops.distributional import categorical_loss, categorical_projection
from rl_core.ops.losses import LossCoefficients
from rl_core.ops.returns import gae
from rl_core.ops.sequences import discounted_returns_to_go
from rl_core.ops.soft_actor_critic import discrete_actor_loss, discrete_soft_value, temperature_loss
from rl_core.ops.value_learning import double_q_value, dueling, select, td_loss, td_target

N, A, GAMMA = 64, 3, 0.9
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
pytestmark = pytest.mark.filterwarnings("ignore:No target network updater")


@pytest.fixture(scope="module", autouse=True)
def torchrl():
    """Import it for the tests that run here: each test process collects this file, and it takes 10 s and 250 MB."""
    global DuelingMlpDQNet, TensorDict, TensorDictModule, functional, modules, objectives
    multiprocessing.get_start_method()  # chosen, or it would choose "spawn" for every other test of this process
    pytest.importorskip("torchrl")
    from tensordict import TensorDict
    from tensordict.nn import TensorDictModule
    from torchrl import modules, objectives
    from torchrl.modules.models.models import DuelingMlpDQNet
    from torchrl.objectives.value import functional


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def chance(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.2


def test_gae_with_truncated_episodes():
    reward, value, next_value = random(3, 50, 4)
    terminated, truncated = chance(2, 50, 4, seed=1)
    expected, _ = functional.generalized_advantage_estimate(
        GAMMA,
        0.95,
        *(column.unsqueeze(-1) for column in (value, next_value, reward, terminated | truncated, terminated)),
        time_dim=0,
    )
    result = gae(reward, value, next_value, terminated, truncated, gamma=GAMMA, lambda_=0.95)
    torch.testing.assert_close(result, expected.squeeze(-1), **CLOSE)


def test_returns_to_go():
    reward, done = random(50, 4), chance(50, 4, seed=1)
    done[-1] = True
    expected = functional.reward2go(reward.unsqueeze(-1), done.unsqueeze(-1), GAMMA, time_dim=0).squeeze(-1)
    torch.testing.assert_close(discounted_returns_to_go(reward, done, torch.zeros(4), GAMMA), expected, **CLOSE)


def transitions(action, scale=3.0):
    """Transitions as TorchRL takes them, and as our functions do."""
    terminated = chance(N, 1, seed=4)
    obs, next_obs, reward = random(N, 4, seed=1), random(N, 4, seed=2), scale * random(N, 1, seed=3)
    following = {"observation": next_obs, "reward": reward, "terminated": terminated, "done": terminated}
    data = TensorDict({"observation": obs, "action": action, "next": TensorDict(following, [N])}, [N])
    return data, obs, next_obs, reward[:, 0], GAMMA * (~terminated[:, 0]).float()


def moved(parameters):
    """Move the weights of a target network away from those they are a copy of."""
    for place, (name, parameter) in enumerate(sorted(parameters.flatten_keys().items())):
        if "support" not in name:
            parameter.data += 0.3 * random(*parameter.shape, seed=20 + place)


def outputs(module, parameters, obs, key="action_value"):
    """Run a network of TorchRL with certain weights."""
    with parameters.to_module(module):
        return module(TensorDict({"observation": obs}, [N]))[key]


def choices():
    return torch.randint(A, (N,), generator=torch.Generator().manual_seed(5))


def dense(num_outputs):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, num_outputs))


def test_double_q_target_and_loss():
    theirs = objectives.DQNLoss(
        modules.QValueActor(dense(A), in_keys=["observation"], action_space="categorical"),
        action_space="categorical",
        double_dqn=True,
        delay_value=True,
        loss_function="smooth_l1",
    )
    theirs.make_value_estimator(gamma=GAMMA)
    moved(theirs.target_value_network_params)
    action = choices()
    data, obs, next_obs, reward, discount = transitions(action)
    q, next_q = (outputs(theirs.value_network, theirs.value_network_params, one) for one in (obs, next_obs))
    slow = outputs(theirs.value_network, theirs.target_value_network_params, next_obs)
    next_value = double_q_value(slow, next_q)
    assert not torch.equal(next_value, slow.amax(1)), "the online network prefers other actions"
    loss, error = td_loss(select(q, action), td_target(reward, discount, next_value))
    torch.testing.assert_close(loss, theirs(data)["loss"], **CLOSE)
    torch.testing.assert_close(error.square(), data["td_error"][:, 0], **CLOSE)


@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_distributional_target_and_loss(scale):
    atoms = 11
    support = torch.linspace(-3, 5, atoms)
    net = nn.Sequential(dense(A * atoms), nn.Unflatten(-1, (atoms, A)), nn.LogSoftmax(-2))
    actor = modules.DistributionalQValueActor(
        TensorDictModule(net, ["observation"], ["action_value"]), support=support, action_space="categorical"
    )
    theirs = objectives.DistributionalDQNLoss(actor, gamma=GAMMA, delay_value=True)
    moved(theirs.target_value_network_params)
    action = choices()
    data, obs, next_obs, reward, discount = transitions(action, scale)
    logits, next_logits, slow = (
        outputs(theirs.value_network, parameters, one).transpose(1, 2)  # [N, A, M]
        for parameters, one in (
            (theirs.value_network_params, obs),
            (theirs.value_network_params, next_obs),
            (theirs.target_value_network_params, next_obs),
        )
    )
    best = (next_logits.exp() @ support).argmax(-1)
    target = categorical_projection(select(slow.exp(), best), support, reward, discount)
    loss, cross_entropy = categorical_loss(select(logits, action), target)
    torch.testing.assert_close(loss, theirs(data)["loss"], **CLOSE)
    torch.testing.assert_close(cross_entropy, data["td_error"][:, 0], **CLOSE)


def test_dueling():
    net = DuelingMlpDQNet(out_features=A, mlp_kwargs_feature={"num_cells": [8]}, mlp_kwargs_output={"num_cells": [8]})
    obs = random(N, 4)
    expected = net(obs)
    features = net.features(obs)
    torch.testing.assert_close(dueling(net.advantage(features), net.value(features)), expected, **CLOSE)


@pytest.mark.parametrize("value_clip", [None, 0.3])
def test_clipped_actor_critic_loss(value_clip):
    actor = modules.ProbabilisticActor(
        TensorDictModule(dense(A), ["observation"], ["logits"]),
        in_keys=["logits"],
        distribution_class=torch.distributions.Categorical,
    )
    critic = modules.ValueOperator(dense(1), in_keys=["observation"])
    theirs = objectives.ClipPPOLoss(
        actor,
        critic,
        clip_epsilon=0.1,
        clip_value=value_clip,
        loss_critic_type="l2",
        critic_coeff=0.7,
        entropy_coeff=0.05,
    )
    action, obs = choices(), random(N, 4, seed=1)
    with torch.no_grad():
        behavior_log_prob = dense(A)(obs).log_softmax(1).gather(1, action[:, None])[:, 0] + 0.2 * random(N)
    behavior_value, advantage, value_target = random(3, N, seed=2)
    behavior_value = outputs(critic, theirs.critic_network_params, obs, "state_value")[:, 0].detach() + behavior_value
    data = TensorDict(
        {
            "observation": obs,
            "action": action,
            "action_log_prob": behavior_log_prob,
            "advantage": advantage[:, None],
            "value_target": value_target[:, None],
            "state_value": behavior_value[:, None],
        },
        [N],
    )
    reported = theirs(data)
    log_probs = outputs(theirs.actor_network, theirs.actor_network_params, obs, "logits").log_softmax(1)
    ours = clipped_loss(
        log_probs.gather(1, action[:, None])[:, 0],
        -(log_probs.exp() * log_probs).sum(1),
        outputs(theirs.critic_network, theirs.critic_network_params, obs, "state_value")[:, 0],
        behavior_log_prob=behavior_log_prob,
        behavior_value=behavior_value,
        advantage=advantage,
        value_target=value_target,
        coefficients=LossCoefficients(clip=0.1, value_clip=value_clip, value=0.7, entropy=0.05),
    )
    torch.testing.assert_close(ours.policy, reported["loss_objective"].detach(), **CLOSE)
    torch.testing.assert_close(0.7 * ours.value, reported["loss_critic"].detach(), **CLOSE)
    torch.testing.assert_close(-0.05 * ours.entropy, reported["loss_entropy"].detach(), **CLOSE)
    torch.testing.assert_close(ours.clip_fraction, reported["clip_fraction"], **CLOSE)
    expected = reported["loss_objective"] + reported["loss_critic"] + reported["loss_entropy"]
    weights = [parameter for parameter in theirs.parameters() if parameter.requires_grad]
    assert weights
    torch.testing.assert_close(
        torch.autograd.grad(ours.total, weights), torch.autograd.grad(expected, weights), **CLOSE
    )


def test_discrete_soft_actor_critic_targets_and_losses():
    alpha = 0.3
    actor = modules.ProbabilisticActor(
        TensorDictModule(dense(A), ["observation"], ["logits"]),
        in_keys=["logits"],
        distribution_class=torch.distributions.Categorical,
    )
    theirs = objectives.DiscreteSACLoss(
        actor,
        TensorDictModule(dense(A), ["observation"], ["action_value"]),
        action_space="categorical",
        num_actions=A,
        loss_function="l2",
        alpha_init=alpha,
        delay_qvalue=True,
    )
    theirs.make_value_estimator(gamma=GAMMA)
    moved(theirs.target_qvalue_network_params)
    action = choices()
    data, obs, next_obs, reward, discount = transitions(action)
    reported = theirs(data)
    q, slow = (
        torch.stack([outputs(theirs.qvalue_network, one, obs_) for one in parameters.unbind(0)])
        for parameters, obs_ in ((theirs.qvalue_network_params, obs), (theirs.target_qvalue_network_params, next_obs))
    )
    log_prob, next_log_prob = (
        outputs(theirs.actor_network, theirs.actor_network_params, one, "logits").log_softmax(1)
        for one in (obs, next_obs)
    )
    target = td_target(reward, discount, discrete_soft_value(slow.amin(0), next_log_prob, alpha)).detach()
    loss = sum(td_loss(select(one, action), target, kind="mse")[0] for one in q)
    torch.testing.assert_close(loss, reported["loss_qvalue"], **CLOSE)
    torch.testing.assert_close(discrete_actor_loss(q.amin(0), log_prob, alpha), reported["loss_actor"], **CLOSE)
    log_alpha = torch.tensor(alpha).log()
    entropy = -(log_prob.exp() * log_prob).sum(1)
    expected = temperature_loss(log_alpha, -entropy, float(theirs.target_entropy))
    torch.testing.assert_close(expected, reported["loss_alpha"].detach(), **CLOSE)
