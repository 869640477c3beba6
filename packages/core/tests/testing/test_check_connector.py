from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stateful_connectors import FrameStack, NegateReward, RebuiltFrameStack, RepeatAction, RunningMean, SwapActions

from rl_core import ActionConnector, ConnectorState, LearnerConnector, ObsConnector
from rl_core.connect.required import ActionToEnv, FlattenObs
from rl_core.testing.check_connector import ConnectorCheckError, check_connector

VECTOR, ACTION = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)
NESTED = spaces.Dict(a=spaces.Discrete(3, start=1), b=spaces.Tuple([VECTOR, spaces.MultiBinary(2)]))


@pytest.mark.parametrize(
    ("connector", "space", "action"),
    [
        (RunningMean(), VECTOR, ACTION),
        (FrameStack(), VECTOR, ACTION),
        (RebuiltFrameStack(), VECTOR, ACTION),
        (RepeatAction(), VECTOR, ACTION),
        (NegateReward(), VECTOR, ACTION),
        (FlattenObs(), VECTOR, ACTION),
        (FlattenObs(), NESTED, ACTION),
        (FlattenObs(("b",)), NESTED, ACTION),
        (SwapActions(), VECTOR, ACTION),
        (ActionToEnv(), VECTOR, spaces.Discrete(3, start=-1)),
        (ActionToEnv(clip=True, rescale=True), VECTOR, spaces.Box(-2, 2, (3,))),
        (ActionToEnv(), VECTOR, NESTED),
        (ActionToEnv(), VECTOR, spaces.MultiDiscrete([2, 3])),
    ],
    ids=repr,
)
def test_good_connectors_conform(connector, space, action):
    check_connector(connector, space, action)


class Same(ObsConnector):
    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        return state, step


@dataclass(frozen=True)
class ListField(Same):
    parts: Any = field(default_factory=lambda: [1])


@dataclass(frozen=True)
class FunctionField(Same):
    fn: Any = field(default_factory=lambda: lambda x: x)


@dataclass
class NotFrozen(Same):
    pass


@dataclass(frozen=True)
class Mutates(Same):
    def __call__(self, state, step):
        step.obs[:] = 0
        return state, step


@dataclass(frozen=True)
class MutatesState(FrameStack):
    def __call__(self, state, step):
        state.slots[:, -1] = step.obs
        return super().__call__(state, step)


@dataclass(frozen=True)
class WrongShape(Same):
    def __call__(self, state, step):
        return state, replace(step, obs=step.obs[:, :1])


@dataclass(frozen=True)
class WrongDtype(Same):
    def __call__(self, state, step):
        return state, replace(step, obs=step.obs.astype(np.int64))


@dataclass(frozen=True)
class LeavesSpace(Same):
    def __call__(self, state, step):
        return state, replace(step, obs=step.obs + 5)


@dataclass(frozen=True)
class TouchesFlags(Same):
    def __call__(self, state, step):
        return state, replace(step, terminated=~step.terminated)


@dataclass(frozen=True)
class RewardColumn(Same):
    def __call__(self, state, step):
        return state, replace(step, reward=step.reward[:, None])


CALLS = []


@dataclass(frozen=True)
class KeepsMemoryOutside(Same):
    def __call__(self, state, step):
        CALLS.append(1)
        return state, replace(step, reward=step.reward + len(CALLS))


@dataclass(frozen=True)
class ForgetsToRestart(FrameStack):
    def __call__(self, state, step):
        return super().__call__(state, replace(step, first=np.zeros_like(step.first)))[0], replace(
            step, obs=np.concatenate((state.slots[:, 1:].reshape(len(step.obs), -1), step.obs), axis=1)
        )


@dataclass(frozen=True)
class MixesSlots(Same):
    def __call__(self, state, step):
        return state, replace(step, obs=np.clip(step.obs - step.obs.mean(0), -1, 1))


@dataclass(frozen=True)
class NoMerge(RunningMean):
    def merge(self, shared, base):
        return ObsConnector.merge(self, shared, base)


@dataclass(frozen=True)
class ForgetfulMerge(RunningMean):
    def merge(self, shared, base):
        return base


@dataclass(frozen=True)
class OddState(Same):
    def initial_state(self, observation_space, action_space, num_slots):
        return ConnectorState(shared={"x": object()})

    def merge(self, shared, base):
        return shared[0]


@dataclass(frozen=True)
class GrowingState(Same):
    def initial_state(self, observation_space, action_space, num_slots):
        return ConnectorState(slots=np.zeros((num_slots, 0)))

    def __call__(self, state, step):
        return ConnectorState(slots=np.concatenate((state.slots, step.obs), axis=1)), step


@dataclass(frozen=True)
class SharedInSlots(Same):
    def initial_state(self, observation_space, action_space, num_slots):
        return ConnectorState(slots=np.zeros(7))


@dataclass(frozen=True)
class ReturnsStepOnly(Same):
    def __call__(self, state, step):
        return step


@dataclass(frozen=True)
class Raises(Same):
    def __call__(self, state, step):
        raise KeyError("mission")


@dataclass(frozen=True)
class NoSpace(Same):
    def output_space(self, observation_space, action_space):
        return (2,)


@pytest.mark.parametrize(
    ("connector", "message"),
    [
        (Same(), "is not a frozen dataclass"),
        (NotFrozen(), "is not a frozen dataclass"),
        (ListField(), r"came back from a file as .*Use tuples, not lists"),
        (FunctionField(), "cannot be stored and rebuilt from its fields .*lambda"),
        (Mutates(), "changed the step's observation it was given"),
        (MutatesState(), "changed the state it was given"),
        (WrongShape(), r"declares the output space Box.*but gave float32 of shape \(1,\)"),
        (WrongDtype(), "but gave int64 of shape|declares the output space"),
        (LeavesSpace(), "declares the output space Box"),
        (TouchesFlags(), "changed terminated of the step"),
        (RewardColumn(), r"rewards of shape \(3, 1\), expected \[B\] = \(3,\)"),
        (KeepsMemoryOutside(), "gave two results for the same state and step"),
        (ForgetsToRestart(), "depends on the episode before"),
        (MixesSlots(), "the result of slot 0 changed with the observations of other slots"),
        (NoMerge(), r"has shared statistics but no merge\(\)"),
        (ForgetfulMerge(), "merge of one runner's statistics gave"),
        (OddState(), "shared of the state holds a object, which a checkpoint cannot"),
        (GrowingState(), "slots of the state changed its structure or shapes"),
        (SharedInSlots(), r"slots has a leaf of shape \(7,\), expected the first axis to be the 3 env slots"),
        (ReturnsStepOnly(), r"expected \(ConnectorState, Step\)"),
        (Raises(), "raised KeyError on observations of Box.*mission"),
        (NoSpace(), r"output_space returned \(2,\), expected a gymnasium Space"),
        (FrameStack, "is derived from neither ObsConnector, ActionConnector nor LearnerConnector"),
    ],
    ids=lambda value: getattr(type(value), "__name__", "") if not isinstance(value, str) else "",
)
def test_a_connector_that_breaks_a_rule_is_told_which(connector, message):
    with pytest.raises(ConnectorCheckError, match=message):
        check_connector(connector, VECTOR, ACTION)


def test_a_space_that_the_connector_refuses_is_reported():
    with pytest.raises(ConnectorCheckError, match="FrameStack takes vectors"):
        check_connector(FrameStack(), NESTED, ACTION)


@dataclass(frozen=True)
class LearnsInCall(ObsConnector):
    def output_space(self, observation_space, action_space):
        return observation_space

    def initial_state(self, observation_space, action_space, num_slots):
        return ConnectorState(shared=np.zeros(()))

    def __call__(self, state, step):
        return ConnectorState(state.shared + 1), step


@dataclass(frozen=True)
class RebuildsWrongly(ObsConnector):
    rebuildable = True

    def output_space(self, observation_space, action_space):
        return observation_space

    def __call__(self, state, step):
        return state, replace(step, obs=np.where(step.first[:, None], 0, step.obs).astype(np.float32))

    def rebuild(self, state, obs, first):
        return obs


def test_statistics_change_in_observe_only():
    with pytest.raises(ConnectorCheckError, match="changed its shared statistics in __call__.*Do that in observe"):
        check_connector(LearnsInCall(), VECTOR, ACTION)


def test_what_the_learner_rebuilds_must_be_what_sampling_gave():
    with pytest.raises(ConnectorCheckError, match=r"rebuild\(\) gave other observations than sampling"):
        check_connector(RebuildsWrongly(), VECTOR, ACTION)


@dataclass(frozen=True)
class OutOfBounds(ActionConnector):
    def module_space(self, action_space):
        return action_space

    def __call__(self, state, action, first):
        return state, action.numpy() + 5


@dataclass(frozen=True)
class MutatesAction(ActionConnector):
    def module_space(self, action_space):
        return action_space

    def __call__(self, state, action, first):
        return state, action.zero_()


@dataclass(frozen=True)
class NarrowAction(ActionConnector):
    def module_space(self, action_space):
        return action_space

    def __call__(self, state, action, first):
        return state, torch.cat((action, action), -1)


@pytest.mark.parametrize(
    ("connector", "message"),
    [
        (OutOfBounds(), "which is not in Box"),
        (MutatesAction(), "changed the action it was given"),
        (NarrowAction(), r"of shape \(2,\).*which is not in Box"),
    ],
)
def test_an_action_connector_that_breaks_a_rule_is_told_which(connector, message):
    with pytest.raises(ConnectorCheckError, match=message):
        check_connector(connector, VECTOR, spaces.Box(-1, 1, (1,)))


# Learner connectors ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoisyBonus(LearnerConnector):
    """Adds random numbers and counts rollouts, as it should."""

    def initial_state(self, seed):
        return {"seed": seed, "count": 0}

    def __call__(self, state, rollout):
        noise = torch.rand(
            rollout.reward.shape, generator=torch.Generator().manual_seed(state["seed"] + state["count"])
        )
        return {**state, "count": state["count"] + 1}, replace(rollout, reward=rollout.reward + noise), {"mean": 0.5}


@dataclass(frozen=True)
class ChangesRollout(NoisyBonus):
    def __call__(self, state, rollout):
        rollout.reward.add_(1.0)
        return state, rollout, {}


@dataclass(frozen=True)
class ChangesState(NoisyBonus):
    def __call__(self, state, rollout):
        state["count"] += 1
        return state, rollout, {}


@dataclass(frozen=True)
class DrawsGlobally(NoisyBonus):
    def __call__(self, state, rollout):
        return state, replace(rollout, reward=rollout.reward + torch.rand(1)), {}


@dataclass(frozen=True)
class DrawsGloballyForNothing(NoisyBonus):
    def __call__(self, state, rollout):
        torch.rand(1)
        return state, rollout, {}


@dataclass(frozen=True)
class CutsRewards(NoisyBonus):
    def __call__(self, state, rollout):
        return state, replace(rollout, reward=rollout.reward[:-1]), {}


@dataclass(frozen=True)
class CountsSteps(NoisyBonus):
    def __call__(self, state, rollout):
        return state, replace(rollout, env_steps=rollout.env_steps + 1), {}


@dataclass(frozen=True)
class ChangesNames(NoisyBonus):
    def __call__(self, state, rollout):
        return {**state, "count": state["count"] + 1}, rollout, {f"rollout_{state['count']}": 1.0}


@dataclass(frozen=True)
class ReturnsRollout(NoisyBonus):
    def __call__(self, state, rollout):
        return rollout


@dataclass(frozen=True)
class Infinite(NoisyBonus):
    def __call__(self, state, rollout):
        return state, replace(rollout, reward=rollout.reward / 0), {}


def test_a_learner_connector_that_keeps_the_rules_passes_on_all_spaces():
    for space in (VECTOR, NESTED):
        for action_space in (spaces.Discrete(3, start=2), spaces.Box(-1, 1, (2,), np.float32), NESTED):
            check_connector(NoisyBonus(), space, action_space)


@pytest.mark.parametrize(
    ("piece", "message"),
    [
        (ChangesRollout(), "changed the rollout it was given"),
        (ChangesState(), "changed the state it was given"),
        (DrawsGlobally(), "gave two results for the same seed"),
        (DrawsGloballyForNothing(), "drew from torch's global random numbers"),
        (CutsRewards(), r"obs of the rollout has shape .* as rewards of \(9, 3\) say"),
        (CountsSteps(), "changed env_steps"),
        (ChangesNames(), "Report the same names each time"),
        (ReturnsRollout(), "expected .state, Rollout, figures."),
        (Infinite(), "gave a reward that is not finite"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_learner_connector_that_breaks_a_rule_is_told_which(piece, message):
    with pytest.raises(ConnectorCheckError, match=f"{type(piece).__name__}.*{message}"):
        check_connector(piece, VECTOR, spaces.Discrete(2))
