import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from rl_core import DQNConfig, RLModule, SACConfig, TD3Config, TQCConfig
from rl_core.errors import ConfigError, NonFiniteError
from rl_core.learning.optimizer import FlatAdam
from rl_core.learning.replay_learner import Group, Losses, ReplayLearner, ReplayObjective
from rl_core.learning.replay_settings import ReplayBufferSettings, ReplaySettings
from rl_core.records import Rollout
from rl_core.testing.envs import CountdownEnv, NanRewardEnv

OBS = spaces.Box(-1.0, 1.0, (2,), np.float32)


class TwoParts(RLModule):
    """Two linear maps, trained apart."""

    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space)
        self.first = torch.nn.Linear(2, self.distribution.num_inputs)
        self.second = torch.nn.Linear(2, 1)

    def forward_policy(self, obs, state=()):
        return self.first(obs), state

    def forward_value(self, obs, state=()):
        return self.second(obs).squeeze(-1)


def square_losses(module, targets, batch, settings, draw):
    """Losses whose gradients are known: half the mean square of the outputs."""
    first, second = module.first(batch.obs), module.second(batch.obs)
    by_group = {"one": first.square().mean() / 2}
    if draw.step % 2 == 0:
        by_group["two"] = second.square().mean() / 2
    report = {"step": torch.tensor(float(draw.step)), "loss": by_group["one"].detach()}
    if "two" in by_group:
        report["sometimes"] = torch.tensor(1.0)
    return Losses(by_group, report, first.detach().square().sum(-1))


OBJECTIVE = ReplayObjective(
    groups={"one": Group(parts=("first",)), "two": Group(parts=("second",), lr="second_lr")},
    targets=("first",),
    losses=square_losses,
    report=("step", "loss", "sometimes"),
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TwoSettings(ReplaySettings):
    second_lr: float | None = None
    grad_clip: float | None = None


def make_learner(objective=OBJECTIVE, **changes):
    values = {
        "num_steps_sampled_before_learning_starts": 0,
        "train_batch_size_per_learner": 4,
        "replay_buffer_config": ReplayBufferSettings(capacity=1000),
    }
    torch.manual_seed(0)
    module = TwoParts(OBS, spaces.Discrete(2))
    return ReplayLearner(
        module,
        TwoSettings(**(values | changes)),
        objective,
        make_optimizer=lambda parameters: FlatAdam(parameters, epsilon=1e-8),
        seed=0,
        name="it",
    )


def make_rollout(num_steps, num_slots=1, *, seed=0, version=0):
    """Random observations, rewards that count the steps, no ends."""
    generator = torch.Generator().manual_seed(seed)
    size = (num_steps, num_slots)
    return Rollout(
        obs=torch.randn(num_steps + 1, num_slots, 2, generator=generator),
        action=torch.zeros(size, dtype=torch.int64),
        reward=torch.arange(num_steps * num_slots).float().view(size),
        terminated=torch.zeros(size, dtype=torch.bool),
        truncated=torch.zeros(size, dtype=torch.bool),
        valid=None,
        final_index=torch.zeros(0, dtype=torch.int64),
        final_obs=None,
        behavior_dist_inputs=torch.zeros(*size, 2),
        policy_version=version,
        env_steps=num_steps * num_slots,
    )


def weights_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(first, second):
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


# --- the rhythm of gradient steps ---


@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=8),
    start=st.integers(0, 60),
    each=st.sampled_from([0.25, 0.5, 1.0, 1.5, 4.0, 7.0]),
)
@settings(max_examples=30)
def test_gradient_steps_follow_the_env_steps_from_the_rollout_on_that_reaches_the_start(sizes, start, each):
    learner = make_learner(num_steps_sampled_before_learning_starts=start, env_steps_per_gradient_step=each)
    stored = counted = 0
    for place, size in enumerate(sizes):
        metrics = learner.update(make_rollout(size, seed=place))
        stored += size
        counted += size if stored >= start else 0
        assert metrics["learner/it/num_gradient_steps"] == math.floor(counted / each)
        assert metrics["learner/it/replay_size"] == stored
    assert learner.env_steps == stored
    assert learner.version == len(sizes)


def test_a_ratio_without_exact_binary_form_loses_no_step():
    learner = make_learner(env_steps_per_gradient_step=0.1)
    for place in range(30):
        learner.update(make_rollout(1, seed=place))
    assert abs(learner.num_gradient_steps - 300) <= 1


def test_slots_count_as_env_steps():
    learner = make_learner(env_steps_per_gradient_step=3.0)
    assert learner.update(make_rollout(2, 5))["learner/it/num_gradient_steps"] == 3
    assert learner.update(make_rollout(1, 5))["learner/it/num_gradient_steps"] == 5


def test_steps_that_are_not_real_do_not_count():
    learner = make_learner()
    valid = torch.ones(4, 1, dtype=torch.bool)
    valid[1] = False
    metrics = learner.update(dataclasses.replace(make_rollout(4), valid=valid, env_steps=3))
    assert (metrics["learner/it/num_gradient_steps"], metrics["learner/it/replay_size"]) == (3, 3)


def test_age_of_the_policy_is_counted_in_updates():
    learner = make_learner()
    ages = [learner.update(make_rollout(1, version=version))["learner/it/policy_age"] for version in (0, 0, 1)]
    assert ages == [0.0, 1.0, 1.0]


# --- figures ---


def test_figures_have_their_names_from_the_start_and_average_what_is_known():
    learner = make_learner(num_steps_sampled_before_learning_starts=3)
    before = learner.update(make_rollout(2))
    after = learner.update(make_rollout(4))
    assert list(before) == list(after)
    assert {key for key, value in before.items() if math.isnan(value)} == {
        f"learner/it/{name}" for name in ("step", "loss", "sometimes", "grad_norm_one", "grad_norm_two")
    }
    assert after["learner/it/step"] == 1.5, "the mean of 0, 1, 2 and 3"
    assert after["learner/it/sometimes"] == 1.0, "steps without it do not count"
    assert math.isfinite(after["learner/it/grad_norm_two"])


def test_updates_without_a_gradient_step_report_nan():
    learner = make_learner(env_steps_per_gradient_step=4.0)
    learner.update(make_rollout(4))
    metrics = learner.update(make_rollout(2))
    assert math.isnan(metrics["learner/it/loss"])
    assert metrics["learner/it/num_gradient_steps"] == 1


# --- groups ---


def adam_step(gradient, lr):
    """What Adam does first: a step of the size lr against the sign, epsilon aside."""
    return -lr * gradient / (gradient.abs() + 1e-8)


def test_learning_rate_of_each_group_follows_its_own_schedule():
    schedule = ((10.0, 0.5), (20.0, 0.1))
    learner = make_learner(lr=schedule, second_lr=0.25, env_steps_per_gradient_step=15.0)
    before = weights_of(learner.module)
    learner.update(make_rollout(15))
    gradients = {part: getattr(learner.module, part).weight.grad for part in ("first", "second")}
    for part, lr in (("first", 0.3), ("second", 0.25)):
        change = learner.module.state_dict()[f"{part}.weight"] - before[f"{part}.weight"]
        torch.testing.assert_close(change, adam_step(gradients[part], lr), rtol=1e-3, atol=1e-6)


def test_lr_holds_where_a_group_has_none_of_its_own():
    learner = make_learner(lr=0.125)
    assert (learner._lr("one"), learner._lr("two")) == (0.125, 0.125)


def test_a_group_that_a_loss_leaves_out_is_not_trained():
    learner = make_learner(lr=0.1)
    learner.update(make_rollout(1))
    before = weights_of(learner.module)
    learner.update(make_rollout(1))  # step 1 is odd
    after = learner.module.state_dict()
    assert torch.equal(before["second.weight"], after["second.weight"])
    assert not torch.equal(before["first.weight"], after["first.weight"])


def test_gradients_are_clipped_for_each_group_and_reported_before():
    learner = make_learner(grad_clip=1e-3)
    metrics = learner.update(make_rollout(1))
    for group in ("one", "two"):
        assert metrics[f"learner/it/grad_norm_{group}"] > 1e-3
        assert float(learner.optimizers[group].grad.norm()) == pytest.approx(1e-3, rel=1e-2)


def test_modules_that_do_not_fit_the_objective_are_refused():
    groups = {"one": Group(parts=("first",)), "two": Group(parts=("third",))}
    objective = dataclasses.replace(OBJECTIVE, groups=groups, targets=("fourth",))
    with pytest.raises(ConfigError) as error:
        make_learner(objective)
    for part in ("TwoParts", "it has no 'third'", "it has no 'fourth'", "nothing would train second.weight"):
        assert part in str(error.value)


# --- target networks ---


def follow(learner, num_steps):
    """The target after each gradient step, by the formula from what was trained."""
    targets = []
    for place in range(num_steps):
        learner.update(make_rollout(1, seed=place))
        online, slow = learner.module.first.weight, learner.targets["first"].weight
        targets.append((online.detach().clone(), slow.clone()))
    return targets


def every_group(module, targets, batch, settings, draw):
    return square_losses(module, targets, batch, settings, draw._replace(step=0))


ALWAYS = dataclasses.replace(OBJECTIVE, losses=every_group)


@pytest.mark.parametrize("tau", [0.005, 0.5, 1.0])
def test_targets_follow_by_tau_after_every_gradient_step(tau):
    learner = make_learner(ALWAYS, tau=tau, lr=0.1)
    expected = learner.targets["first"].weight.clone()
    torch.testing.assert_close(expected, learner.module.first.weight.detach())
    for online, slow in follow(learner, 5):
        expected = expected + tau * (online - expected)
        torch.testing.assert_close(slow, expected)
    assert not learner.targets["first"].weight.requires_grad


HALVES = ["bfloat16-true", "float16-true"]


@pytest.mark.parametrize("precision", HALVES)
def test_targets_in_half_precision_follow_in_steps_that_are_too_small_for_it(precision):
    learner = make_learner(ALWAYS, precision=precision, tau=0.005, lr=0.0, env_steps_per_gradient_step=1.0)
    start = learner.targets["first"].weight.float()
    with torch.no_grad():
        learner.module.first.weight.add_(0.25)
    learner.update(make_rollout(600))
    moved = learner.targets["first"].weight.float() - start
    torch.testing.assert_close(moved, torch.full_like(moved, 0.25 * (1 - 0.995**600)), atol=0.005, rtol=0.0)


@pytest.mark.parametrize("precision", ["float32", *HALVES])
@pytest.mark.parametrize("other", ["float32", *HALVES])
def test_targets_are_saved_in_float32_and_taken_back_in_any_precision(precision, other):
    learner, restored = (make_learner(ALWAYS, precision=kind, tau=0.01, lr=0.1) for kind in (precision, other))
    for target in restored.targets.values():
        torch.nn.init.zeros_(target.weight)
    learner.update(make_rollout(8))
    state = learner.get_state()
    restored.set_state(state)
    saved, taken = state["targets"]["first"]["weight"], restored.get_state()["targets"]["first"]["weight"]
    assert saved.dtype == torch.float32
    assert torch.equal(taken, saved)
    for one in (learner, restored):
        used = one.targets["first"].weight
        assert used.dtype == one.module.first.weight.dtype
        assert torch.equal(used, saved.to(used.dtype))


@pytest.mark.parametrize(
    ("frequency", "each", "period"), [(3, 1.0, 3), (4, 2.0, 2), (5, 2.0, 3), (1, 0.25, 4), (1, 4.0, 1)]
)
def test_targets_are_updated_each_time_so_many_env_steps_were_learned_from(frequency, each, period):
    learner = make_learner(
        ALWAYS, tau=1.0, lr=0.1, target_network_update_freq=frequency, env_steps_per_gradient_step=each
    )
    updated = []
    rollout = max(1, round(each))
    while learner.num_gradient_steps < 4 * period:
        slow, steps = learner.targets["first"].weight.clone(), learner.num_gradient_steps
        learner.update(make_rollout(rollout, seed=steps))
        updated.append((learner.num_gradient_steps, not torch.equal(slow, learner.targets["first"].weight)))
        if each < 1:
            continue
        assert updated[-1][1] == (learner.num_gradient_steps % period == 0)
    assert any(change for _, change in updated)


def test_targets_wait_until_every_group_is_trained():
    learner = make_learner(tau=1.0, lr=0.1)
    slow = [target for _, target in follow(learner, 5)]
    changed = [not torch.equal(before, after) for before, after in pairwise(slow)]
    assert changed == [False, True, False, True], "group two is trained at steps 0, 2 and 4"


# --- gradients of the algorithms ---

ALGORITHMS = {
    "dqn": (DQNConfig, "CartPole-v1", {"num_atoms": 5, "noisy": True}),
    "sac": (SACConfig, "Pendulum-v1", {}),
    "sac discrete": (SACConfig, "CartPole-v1", {}),
    "td3": (TD3Config, "Pendulum-v1", {"policy_delay": 1}),
    "tqc": (TQCConfig, "Pendulum-v1", {}),
}


def small(name, **settings):
    config, env, training = ALGORITHMS[name]
    buffer = {"capacity": 500, **settings.pop("replay_buffer_config", {})}
    settings = {"num_steps_sampled_before_learning_starts": 8, "grad_clip": None} | training | settings
    return (
        config()
        .environment(env)
        .env_runners(rollout_fragment_length=8)
        .training(train_batch_size_per_learner=8, replay_buffer_config=buffer, **settings)
        .reporting(min_sample_timesteps_per_iteration=0)
        .rl_module(model_config={"fcnet_hiddens": (6,)})
    )


@pytest.mark.parametrize("name", ALGORITHMS)
def test_each_group_steps_by_the_gradient_of_its_own_loss_alone(name):
    algorithm = small(name, env_steps_per_gradient_step=8.0).build()
    learner, expected = algorithm.learner, {}

    def spy(module, targets, batch, settings, draw):
        made = learner.config_losses(module, targets, batch, settings, draw)
        for group, loss in made.by_group.items():
            parameters = learner.optimizers[group].parameters
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
            expected[group] = torch.cat([gradient.reshape(-1) for gradient in gradients])
        return made

    learner.config_losses = learner.objective.losses
    learner.objective = dataclasses.replace(learner.objective, losses=spy)
    learner.update(algorithm.sample())
    assert expected.keys() == learner.optimizers.keys()
    for group, gradient in expected.items():
        assert gradient.any()
        torch.testing.assert_close(learner.optimizers[group].grad, gradient)
    every = [parameter for optimizer in learner.optimizers.values() for parameter in optimizer.parameters]
    assert {id(parameter) for parameter in every} == {id(parameter) for parameter in learner.module.parameters()}
    assert len(every) == len(list(learner.module.parameters())), "no parameter has two optimizers"


def test_losses_get_batches_as_the_settings_say():
    batches = []

    def spy(module, targets, batch, settings, draw):
        batches.append(batch)
        return square_losses(module, targets, batch, settings, draw)

    learner = make_learner(dataclasses.replace(OBJECTIVE, losses=spy), n_step=3, gamma=0.5)
    rollout = make_rollout(12)
    learner.update(rollout)
    assert len(batches) == 12
    for batch in batches:
        assert batch.obs.shape == (4, 2)
        for n in range(4):
            start = int((rollout.obs[:, 0] == batch.obs[n]).all(-1).nonzero())
            steps = min(3, 12 - start)
            assert float(batch.reward[n]) == pytest.approx(sum(0.5**k * (start + k) for k in range(steps)))
            assert float(batch.discount[n]) == 0.5**steps
            assert torch.equal(batch.next_obs[n], rollout.obs[start + steps, 0])
    assert {float(weight) for batch in batches for weight in batch.weight} == {1.0}


def test_priorities_are_the_errors_that_the_losses_return():
    buffer = ReplayBufferSettings(capacity=50, type="prioritized", alpha=1.0, beta=0.0)
    learner = make_learner(replay_buffer_config=buffer, env_steps_per_gradient_step=1.0, lr=0.0)
    learner.update(make_rollout(40))
    leaves = learner.buffer.get_state()["leaves"]
    drawn = leaves[:40] != 1.0
    assert drawn.sum() > 10
    expected = learner.module.first(make_rollout(40).obs[:40, 0]).detach().square().sum(-1)
    np.testing.assert_allclose(leaves[:40][drawn], expected[drawn] + 1e-6, rtol=1e-4)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_importance_weights_follow_the_schedule_of_beta(beta):
    seen = []

    def spy(module, targets, batch, settings, draw):
        seen.append(batch.weight)
        return square_losses(module, targets, batch, settings, draw)

    schedule = ((0.0, 0.0), (30.0, beta))
    buffer = ReplayBufferSettings(capacity=50, type="prioritized", alpha=1.0, beta=schedule)
    learner = make_learner(dataclasses.replace(OBJECTIVE, losses=spy), replay_buffer_config=buffer)
    learner.update(make_rollout(40))
    assert all(float(weight.max()) == 1.0 for weight in seen)
    assert any(float(weight.min()) < 1.0 for weight in seen) == (beta > 0)


# --- failures ---


def broken_losses(module, targets, batch, settings, draw):
    made = square_losses(module, targets, batch, settings, draw)
    if draw.step == 2:
        made.by_group["two"] = made.by_group["two"] * math.nan
    return made


def test_a_loss_that_is_not_finite_leaves_all_groups_at_the_step_before():
    learner = make_learner(dataclasses.replace(OBJECTIVE, losses=broken_losses), lr=0.1)
    learner.update(make_rollout(2))
    before, slow = weights_of(learner.module), weights_of(learner.targets["first"])
    moments = {group: optimizer.get_state() for group, optimizer in learner.optimizers.items()}
    with pytest.raises(NonFiniteError, match="gradient step 2 the two loss was nan"):
        learner.update(make_rollout(1))
    assert same(before, learner.module.state_dict())
    assert same(slow, learner.targets["first"].state_dict())
    for group, optimizer in learner.optimizers.items():
        assert same(moments[group], optimizer.get_state())


@pytest.mark.parametrize("name", ["dqn", "sac discrete"])
def test_rewards_that_are_not_finite_stop_training(name):
    config = small(name, num_steps_sampled_before_learning_starts=0).environment(NanRewardEnv)
    config.environment(disable_env_checking=True)
    algorithm = config.build()
    before = weights_of(algorithm.learner.module)
    with pytest.raises(NonFiniteError, match="Lower the learning rate"):
        for _ in range(20):
            before = weights_of(algorithm.learner.module)
            algorithm.train()
    assert all(bool(tensor.isfinite().all()) for tensor in algorithm.learner.module.state_dict().values())
    assert before.keys() == algorithm.learner.module.state_dict().keys()


def test_a_buffer_that_does_not_fit_says_how_many_bytes_it_would_take():
    algorithm = small("dqn", replay_buffer_config={"capacity": 10**13}).build()
    figures = r"10,000,000,000,000 transitions of .* bytes each take [\d,]+ bytes \(.* GiB\), but only [\d,]+ bytes"
    with pytest.raises(ConfigError, match=figures) as error:
        algorithm.train()
    assert "set a smaller replay capacity" in str(error.value)


# --- other optimizers, other places ---


def momentum(parameters, training):
    """SGD whose learning rate tells which group it was made for."""
    MADE.append(sorted({name.split(".")[0] for name in parameters}))
    return torch.optim.SGD(parameters.values(), lr=0.01, momentum=0.9)


MADE = []


def test_optimizer_fn_makes_an_optimizer_for_each_group():
    MADE.clear()
    algorithm = small("sac").learners(optimizer_fn=momentum).build()
    assert MADE == [["critic"], ["policy"], ["log_alpha"]]
    before = weights_of(algorithm.learner.module)
    for _ in range(2):
        algorithm.train()
    after = algorithm.learner.module.state_dict()
    moved = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert moved == {"critic", "policy", "log_alpha"}


def test_state_survives_optimizers_of_torch():
    first = small("sac").learners(optimizer_fn=momentum).build()
    first.train()
    second = small("sac").learners(optimizer_fn=momentum).build()
    second.learner.set_state(first.learner.get_state())
    with torch.no_grad():
        for own, other in zip(second.learner.module.parameters(), first.learner.module.parameters(), strict=True):
            own.copy_(other)
    rollout = first.sample()
    np.testing.assert_equal(first.learner.update(rollout), second.learner.update(rollout))
    assert same(first.learner.module.state_dict(), second.learner.module.state_dict())


def test_published_weights_are_views_that_follow_training():
    learner = make_learner(lr=0.1)
    published = learner.weights().tensors
    before = {name: tensor.clone() for name, tensor in published.items()}
    learner.update(make_rollout(4))
    assert not same(before, published)
    assert same(learner.module.state_dict(), published)
    assert learner.weights().version == 1


def test_a_buffer_in_files_learns_as_one_in_memory(tmp_path):
    results = []
    for folder in (None, str(tmp_path / "buffer")):
        algorithm = small("dqn", replay_buffer_config={"folder": folder}).build()
        results.append([algorithm.train()["learner/default/td_loss"] for _ in range(4)])
    assert results[0] == results[1]
    assert list((tmp_path / "buffer").iterdir())


def test_rollouts_are_as_long_as_four_gradient_steps_are_due_for():
    config = DQNConfig().environment(CountdownEnv)
    assert config.num_rollout_steps() == 16
    assert config.env_runners(num_envs_per_env_runner=3).num_rollout_steps() == 5
    assert config.training(env_steps_per_gradient_step=0.25).num_rollout_steps() == 1
    assert config.env_runners(rollout_fragment_length=7).num_rollout_steps() == 7
