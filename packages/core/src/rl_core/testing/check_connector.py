"""Conformance check of a connector: what sampling, evaluation, checkpoints and inference rely on."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces

from rl_core.config.codec import decode, encode, import_path
from rl_core.connect.chain import ActionChain, ObsChain
from rl_core.connect.protocol import ActionConnector, ConnectorState, ObsConnector
from rl_core.errors import ConfigError, RLError
from rl_core.learning.learner_connector import LearnerConnector
from rl_core.records import Step
from rl_core.testing.check_learner_connector import LearnerConnectorCheck
from rl_core.tree import Tree, tree_leaves, tree_map, tree_zip

_NUM_SLOTS = 3
_NUM_STEPS = 6
_FLAGS = ("terminated", "truncated", "first", "artificial", "final_slots")


class ConnectorCheckError(RLError, AssertionError):
    """A connector breaks a rule that the library relies on."""


def check_connector(
    connector: ObsConnector | ActionConnector | LearnerConnector,
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> None:
    """Check that a connector keeps the rules of its protocol; call it in your tests.

    It checks that settings can be stored, that what goes in is not changed, that the declared spaces hold, that the
    same state and step give the same result, that an episode's first step starts a slot's memory anew, that slots do
    not mix, that the state can be saved, and that shared statistics can be merged. A learner connector must not change
    the rollout it gets, draw only from its own random numbers, give columns that fit together, and go on from a saved
    state as if nothing had been.

    Args:
        connector: With the settings to check it with.
        observation_space: Of one observation, as the connector gets it.
        action_space: Of one action of the env; of the module for a learner connector.

    Raises:
        ConnectorCheckError: names the first rule that is broken, and what to do.
    """
    name = type(connector).__name__
    if not isinstance(connector, ObsConnector | ActionConnector | LearnerConnector):
        raise ConnectorCheckError(f"{name} is derived from neither ObsConnector, ActionConnector nor LearnerConnector.")
    _check_storable(name, connector)
    before = copy.deepcopy(connector)
    if isinstance(connector, ActionConnector):
        _check_action_connector(name, connector, action_space)
    elif isinstance(connector, LearnerConnector):
        try:
            LearnerConnectorCheck(connector, observation_space, action_space, _demand).run()
        except ConfigError as error:
            raise ConnectorCheckError(str(error)) from error
    else:
        _ObsCheck(name, connector, observation_space, action_space).run()
    _demand(_fields(before) == _fields(connector), f"{name} changed its own fields. Keep what changes in the state.")


def _demand(condition: bool, message: str) -> None:
    if not condition:
        raise ConnectorCheckError(message)


def _fields(connector: Any) -> str:
    return repr([(field.name, getattr(connector, field.name)) for field in dataclasses.fields(connector)])


def _check_storable(name: str, connector: ObsConnector | ActionConnector | LearnerConnector) -> None:
    parameters = getattr(type(connector), "__dataclass_params__", None)
    frozen = "__dataclass_params__" in vars(type(connector)) and parameters is not None and parameters.frozen
    _demand(frozen, f"{name} is not a frozen dataclass: write @dataclass(frozen=True) above the class.")
    try:
        import_path(type(connector))
    except ConfigError:
        return  # a class defined inside a test: usable, though not by a checkpoint
    try:
        stored = json.loads(json.dumps(encode(connector)))
        named = [
            type(connector),
            *(getattr(connector, field.name) for field in dataclasses.fields(cast(Any, connector))),
        ]
        back = decode(stored, allow=[str(getattr(thing, "__module__", "")).partition(".")[0] for thing in named])
    except (RLError, TypeError, ValueError) as error:
        raise ConnectorCheckError(
            f"{name} cannot be stored and rebuilt from its fields ({error}). Use numbers, strings, tuples and other "
            "connectors as fields; mark what is worked out in bind() with field(init=False)."
        ) from error
    _demand(
        back == connector, f"{name} is {connector!r}, but came back from a file as {back!r}. Use tuples, not lists."
    )


# Observation connectors -----------------------------------------------------------------------------------------------


class _ObsCheck:
    """One observation connector on one pair of spaces."""

    def __init__(
        self, name: str, connector: ObsConnector, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
    ) -> None:
        self.name = name
        self.space, self.action_space = copy.deepcopy(observation_space), copy.deepcopy(action_space)
        self.space.seed(0)
        self.action_space.seed(0)
        self.random = np.random.default_rng(0)
        try:
            chain = ObsChain([connector], self.space, action_space)
        except ConfigError as error:
            raise ConnectorCheckError(str(error)) from error
        self.piece, self.output_space = chain.pieces[0], chain.output_space
        if not isinstance(self.output_space, spaces.Space):
            raise ConnectorCheckError(
                f"{name}.output_space returned {self.output_space!r}, expected a gymnasium Space."
            )

    def run(self) -> None:
        """Pass steps through it as an env runner does and look at what comes out."""
        state = fresh = self.initial_state()
        step = self.step(first=np.ones(_NUM_SLOTS, bool))
        for _ in range(_NUM_STEPS):
            after, result = self.call(state, step)
            _demand(
                _same(state.shared, after.shared),
                f"{self.name} changed its shared statistics in __call__, which evaluation and inference call too. "
                "Do that in observe().",
            )
            self.check_result(step, result)
            self.check_repeats(state, step, result)
            self.check_restart(state, step, result)
            if tuple(tree_leaves(state.shared)) == ():
                self.check_slots_apart(state, step, result)
            state = ConnectorState(self.observe(state, step), after.slots)
            step = self.step(first=self.random.random(_NUM_SLOTS) < 0.4)
        self.check_state(fresh, state)
        if self.piece.rebuildable:
            self.check_rebuild()

    def initial_state(self, num_slots: int = _NUM_SLOTS) -> ConnectorState:
        state: object = self.piece.initial_state(self.space, self.action_space, num_slots)
        if not isinstance(state, ConnectorState):
            raise ConnectorCheckError(f"{self.name}.initial_state returned {state!r}, expected a ConnectorState.")
        self.check_leaves(state)
        for leaf in tree_leaves(state.slots):
            _demand(
                len(leaf) == num_slots,
                f"{self.name}.initial_state: slots has a leaf of shape {np.shape(leaf)}, expected the first axis to be "
                f"the {num_slots} env slots. What belongs to all slots goes into shared.",
            )
        return state

    def step(self, *, first: Any) -> Step:
        """Make a step with observations of the space."""
        return Step(
            obs=self.observations(),
            reward=np.where(first, 0.0, self.random.normal(size=_NUM_SLOTS)).astype(np.float32),
            terminated=np.zeros(_NUM_SLOTS, bool),
            truncated=np.zeros(_NUM_SLOTS, bool),
            first=first,
            artificial=np.zeros(_NUM_SLOTS, bool),
            final_slots=np.zeros(0, np.int64),
            final_obs=None,
            action=_stacked(self.action_space, [self.action_space.sample() for _ in range(_NUM_SLOTS)]),
        )

    def observe(self, state: ConnectorState, step: Step) -> Tree:
        """Let it take a step into its statistics, and see that it leaves its arguments alone."""
        kept = copy.deepcopy((state, step))
        shared = self.piece.observe(state, step)
        _demand(
            _same((kept[0].shared, kept[0].slots), (state.shared, state.slots)) and _same(kept[1].obs, step.obs),
            f"{self.name}.observe changed what it was given. Make new arrays.",
        )
        return shared

    def check_rebuild(self) -> None:
        """What the learner works out for a rollout must be what sampling gave."""
        firsts = [np.ones(_NUM_SLOTS, bool), *(self.random.random(_NUM_SLOTS) < 0.3 for _ in range(_NUM_STEPS))]
        steps = [self.step(first=first) for first in firsts]
        state, given = self.piece(self.initial_state(), steps[0])
        states, results = [state], [given.obs]
        for step in steps[1:]:
            state, given = self.piece(states[-1], step)
            states.append(state)
            results.append(given.obs)
        memory = ConnectorState((), states[0].slots)
        rebuilt = self.piece.rebuild(memory, tree_zip(np.stack, [step.obs for step in steps]), np.stack(firsts))
        _demand(
            _same(rebuilt, tree_zip(np.stack, results)),
            f"{self.name} is rebuildable, but rebuild() gave other observations than sampling. Correct it, or leave "
            "rebuildable at False.",
        )
        final = self.step(first=np.zeros(_NUM_SLOTS, bool))
        _, looked_at = self.piece(states[-1], final)
        _demand(
            _same(self.piece.rebuild_final(memory, results[-1], final.obs), looked_at.obs),
            f"{self.name} is rebuildable, but rebuild_final() gave other observations than a look at them did.",
        )

    def observations(self) -> Tree:
        return _stacked(self.space, [self.space.sample() for _ in range(_NUM_SLOTS)])

    def call(self, state: ConnectorState, step: Step) -> tuple[ConnectorState, Step]:
        """Call the connector and see that it leaves its arguments alone."""
        kept = copy.deepcopy((state, step))
        try:
            result: object = self.piece(state, step)
        except Exception as error:
            raise ConnectorCheckError(
                f"{self.name} raised {type(error).__name__} on observations of {self.space}: {error}"
            ) from error
        if not (
            isinstance(result, tuple)
            and len(result) == 2
            and isinstance(result[0], ConnectorState)
            and isinstance(result[1], Step)
        ):
            raise ConnectorCheckError(f"{self.name} returned {result!r}, expected (ConnectorState, Step).")
        for what, old, new in (
            ("state", (kept[0].shared, kept[0].slots), (state.shared, state.slots)),
            ("step's observation", kept[1].obs, step.obs),
            ("step's reward", kept[1].reward, step.reward),
        ):
            _demand(_same(old, new), f"{self.name} changed the {what} it was given. Copy before you write.")
        return result[0], result[1]

    def check_result(self, step: Step, result: Step) -> None:
        """Compare a step that came out with the declared space and with the step that went in."""
        for field in _FLAGS:
            _demand(
                _same(getattr(step, field), getattr(result, field)),
                f"{self.name} changed {field} of the step; an observation connector may change obs and reward only.",
            )
        _demand(
            np.shape(result.reward) == (_NUM_SLOTS,),
            f"{self.name} returned rewards of shape {np.shape(result.reward)}, expected [B] = ({_NUM_SLOTS},).",
        )
        for slot in range(_NUM_SLOTS):
            try:
                one = tree_map(lambda leaf, at=slot: np.asarray(leaf)[at], result.obs)
                fits = self.output_space.contains(_as_member(self.output_space, one))
            except (TypeError, IndexError, KeyError, AttributeError):
                one, fits = result.obs, False
            _demand(
                bool(fits),
                f"{self.name} declares the output space {self.output_space}, but gave {_describe(one)} for slot {slot}."
                " Correct output_space, the shape or the dtype.",
            )

    def check_repeats(self, state: ConnectorState, step: Step, result: Step) -> None:
        _, again = self.call(state, step)
        _demand(
            _same(result.obs, again.obs) and _same(result.reward, again.reward),
            f"{self.name} gave two results for the same state and step. It must be a function of those: keep memory in "
            "the state, not on the connector.",
        )

    def check_restart(self, state: ConnectorState, step: Step, result: Step) -> None:
        """Where an episode begins, what the slot saw before must not show."""
        _, fresh = self.call(ConnectorState(state.shared, self.initial_state().slots), step)
        rows = np.flatnonzero(step.first)
        _demand(
            _same(_rows(result.obs, rows), _rows(fresh.obs, rows)),
            f"{self.name}: the observation of an episode's first step depends on the episode before. Start the slot's "
            "memory anew where step.first is set.",
        )

    def check_slots_apart(self, state: ConnectorState, step: Step, result: Step) -> None:
        """Without shared statistics, a slot's result must not depend on the others."""
        mixed = tree_map(np.array, step.obs)
        other = self.observations()
        for mine, given in zip(tree_leaves(mixed), tree_leaves(other), strict=True):
            mine[1:] = given[1:]
        _, changed = self.call(state, dataclasses.replace(step, obs=mixed))
        rows = np.zeros(1, np.int64)
        _demand(
            _same(_rows(result.obs, rows), _rows(changed.obs, rows)),
            f"{self.name}: the result of slot 0 changed with the observations of other slots, though there are no "
            "shared statistics. Treat the first axis row by row, or keep what belongs to all slots in shared.",
        )

    def check_state(self, fresh: ConnectorState, state: ConnectorState) -> None:
        """Check that a state keeps its structure, can be saved, and can be merged."""
        self.check_leaves(state)
        for what in ("shared", "slots"):
            old, new = getattr(fresh, what), getattr(state, what)
            same = [np.shape(leaf) for leaf in tree_leaves(old)] == [np.shape(leaf) for leaf in tree_leaves(new)]
            _demand(
                same,
                f"{self.name}: {what} of the state changed its structure or shapes after some steps; a restored state "
                "would not fit. Make it in initial_state as it stays.",
            )
        if any(True for _ in tree_leaves(state.shared)):
            self.check_merge(fresh.shared, state.shared)

    def check_leaves(self, state: ConnectorState) -> None:
        for what in ("shared", "slots"):
            for leaf in tree_leaves(getattr(state, what)):
                _demand(
                    leaf is None or isinstance(leaf, np.ndarray | np.generic | torch.Tensor | bool | int | float | str),
                    f"{self.name}: {what} of the state holds a {type(leaf).__name__}, which a checkpoint cannot. Use "
                    "arrays and plain data in dicts and tuples.",
                )

    def check_merge(self, base: Tree, shared: Tree) -> None:
        try:
            merged = self.piece.merge([shared], base)
        except NotImplementedError as error:
            raise ConnectorCheckError(f"{self.name} has shared statistics but no merge(): {error}") from error
        close = _same(shared, merged, tolerance=1e-6)
        _demand(close, f"{self.name}.merge of one runner's statistics gave {merged!r}, expected them back: {shared!r}.")


# Action connectors ----------------------------------------------------------------------------------------------------


def _check_action_connector(name: str, connector: ActionConnector, action_space: spaces.Space[Any]) -> None:
    try:
        chain = ActionChain([connector], action_space)
    except ConfigError as error:
        raise ConnectorCheckError(str(error)) from error
    module_space = copy.deepcopy(chain.module_space)
    if not isinstance(module_space, spaces.Space):
        raise ConnectorCheckError(f"{name}.module_space returned {module_space!r}, expected a gymnasium Space.")
    module_space.seed(0)
    state = chain.initial_state(_NUM_SLOTS, seed=0)
    _demand(
        all(len(leaf) == _NUM_SLOTS for leaf in tree_leaves(state)),
        f"{name}.initial_state: the first axis of each leaf must be the {_NUM_SLOTS} env slots.",
    )
    random = np.random.default_rng(0)
    for number in range(_NUM_STEPS):
        samples = [_from_zero(module_space, module_space.sample()) for _ in range(_NUM_SLOTS)]
        action = tree_map(torch.as_tensor, _stacked(module_space, samples))
        first = np.full(_NUM_SLOTS, number == 0) | (random.random(_NUM_SLOTS) < 0.3)
        kept = copy.deepcopy((state, action))
        try:
            after, result = chain(state, action, first)
            _, again = chain(state, action, first)
        except Exception as error:
            raise ConnectorCheckError(
                f"{name} raised {type(error).__name__} on actions of {module_space}: {error}"
            ) from error
        _demand(_same(kept[1], action), f"{name} changed the action it was given. Copy before you write.")
        _demand(_same(kept[0], state), f"{name} changed the state it was given. Return a new one.")
        _demand(
            _same(result, again),
            f"{name} gave two results for the same state and action. Random numbers, too, must come from the state.",
        )
        _demand(
            [np.shape(leaf) for leaf in tree_leaves(after)] == [np.shape(leaf) for leaf in tree_leaves(state)],
            f"{name}: the state changed its structure or shapes; a restored one would not fit.",
        )
        for slot in range(_NUM_SLOTS):
            one = tree_map(lambda leaf, at=slot: np.asarray(leaf)[at], result)
            numpy = all(isinstance(leaf, np.ndarray) for leaf in tree_leaves(result))
            fits = _as_member(action_space, one) in action_space if numpy else _has_shape(action_space, one)
            _demand(fits, f"{name} gave the action {_describe(one)} for slot {slot}, which is not in {action_space}.")
        state = after


def _from_zero(space: spaces.Space[Any], action: Any) -> Any:
    """Give an action as modules do: discrete parts counted from 0."""
    if isinstance(space, spaces.Dict):
        return {key: _from_zero(part, action[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_from_zero(part, one) for part, one in zip(space.spaces, action, strict=True))
    return action - space.start if isinstance(space, spaces.Discrete | spaces.MultiDiscrete) else action


def _has_shape(space: spaces.Space[Any], action: Any) -> bool:
    """Whether a module's action has the structure of a space; its values are the next piece's business."""
    if isinstance(space, spaces.Dict):
        return isinstance(action, dict) and all(_has_shape(part, action[key]) for key, part in space.spaces.items())
    if isinstance(space, spaces.Tuple):
        return all(_has_shape(part, one) for part, one in zip(space.spaces, action, strict=True))
    return bool(np.shape(action) == space.shape)


# Trees ----------------------------------------------------------------------------------------------------------------


def _stacked(space: spaces.Space[Any], samples: Sequence[Any]) -> Tree:
    """Stack samples of a space to `[B, ...]`."""
    return tree_zip(np.stack, [tree_map(np.asarray, _plain(sample)) for sample in samples])


def _plain(sample: Any) -> Any:
    """Turn gymnasium's ordered dicts into dicts."""
    if isinstance(sample, dict):
        return {key: _plain(value) for key, value in sample.items()}
    return tuple(_plain(value) for value in sample) if isinstance(sample, tuple) else sample


def _rows(tree: Tree, rows: Any) -> Tree:
    return tree_map(lambda leaf: np.asarray(leaf)[rows], tree)


def _same(a: Tree, b: Tree, *, tolerance: float = 0.0) -> bool:
    first, second = list(tree_leaves(a)), list(tree_leaves(b))
    if len(first) != len(second):
        return False
    for x, y in zip(first, second, strict=True):
        x, y = np.asarray(x), np.asarray(y)
        if x.shape != y.shape:
            return False
        number = x.dtype.kind in "biuf" and y.dtype.kind in "biuf"
        equal = np.allclose(x, y, tolerance, tolerance, equal_nan=True) if number else bool((x == y).all())
        if not equal:
            return False
    return True


def _as_member(space: spaces.Space[Any], one: Any) -> Any:
    """Give one row as `space.contains` takes it: in the dtype of the space where that is exact."""
    if isinstance(space, spaces.Dict) and isinstance(one, dict):
        return {key: _as_member(part, one[key]) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple) and isinstance(one, tuple):
        return tuple(_as_member(part, leaf) for part, leaf in zip(space.spaces, one, strict=True))
    return np.asarray(one) if np.shape(one) else np.asarray(one)[()]


def _describe(one: Any) -> str:
    leaves = list(tree_leaves(one))
    if len(leaves) == 1:
        array = np.asarray(leaves[0])
        return f"{array.dtype} of shape {array.shape} with values {np.array2string(array.ravel()[:6], precision=4)}"
    return ", ".join(f"{np.asarray(leaf).dtype} of shape {np.shape(leaf)}" for leaf in leaves)
