"""Games of OpenSpiel as envs: in turns or all at once, with chance, hidden information and masks of legal actions."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiBinary

from rl_core.errors import CheckpointError, ConfigError, EnvError
from rl_core.records import Tree
from rl_multiagent.env.agent_env import EVERYONE, MultiAgentEnv
from rl_multiagent.env.chance import choose

Observation: TypeAlias = Literal["auto", "information_state", "observation"]
"""Which of a game's tensors players see; see `OpenSpielEnv`."""


class OpenSpielEnv(MultiAgentEnv):
    """A game of OpenSpiel; player p is the agent `player_<p>`.

    Where the game goes in turns one agent acts in a step, at a simultaneous node all that have a choice. Chance is
    drawn from the env's own random numbers, which `reset(seed=...)` seeds; only games that draw it themselves, which
    OpenSpiel calls sampled stochastic, do not follow the seed.

    A step's reward is by how much the player's return grew, for everyone, whoever moved: an episode's rewards add up to
    `state.returns()`. What an agent sees is `Dict(observations, action_mask)`, the form that `MaskedActorCritic` takes.

    Example:
        >>> config = (
        ...     PPOConfig()
        ...     .environment(OpenSpielEnv, env_config={"game": "leduc_poker(players=3)"})
        ...     .rl_module(module_class=MaskedActorCritic)
        ...     .use(MultiAgent())
        ... )
    """

    def __init__(
        self, game: str, *, observation: Observation = "auto", flatten: bool = True, action_mask: bool = True
    ) -> None:
        """Load the game.

        Args:
            game: Name, with parameters in parentheses: `"goofspiel(num_cards=4,imp_info=True)"`.
            observation: `"information_state"` is all a player knows of the episode so far, `"observation"` what it sees
                now. `"auto"` takes the information state of games with hidden information that have one, otherwise the
                observation.
            flatten: Make one vector of the tensor, for dense layers; otherwise it keeps the game's shape, such as the
                planes `(3, 6, 7)` of connect four.
            action_mask: Tell which actions are legal. Without it, what an agent sees is the tensor alone: for games in
                which all actions always are.

        Raises:
            ConfigError: `observation` is none of its values.
            EnvError: OpenSpiel is not installed, does not know the game, or it does not give what is asked for.
        """
        if observation not in get_args(Observation):
            raise ConfigError(
                f"OpenSpielEnv: observation={observation!r}, expected one of {', '.join(get_args(Observation))}."
            )
        pyspiel = open_spiel("pyspiel")
        try:
            self.game: Any = pyspiel.load_game(game)
        except pyspiel.SpielError as error:
            raise EnvError(f"OpenSpielEnv: game {game!r} cannot be loaded: {error}") from error
        kind = self.game.get_type()
        if kind.dynamics == pyspiel.GameType.Dynamics.MEAN_FIELD:
            raise EnvError(f"OpenSpielEnv: {game} is a mean field game, which has no single players to act for.")
        self.name = game
        shape = self._choose_tensor(observation, kind.information == pyspiel.GameType.Information.IMPERFECT_INFORMATION)
        self._shape = (int(np.prod(shape)),) if flatten else shape
        self.num_actions = int(self.game.num_distinct_actions())
        self.has_mask = action_mask
        seen: Any = Box(-np.inf, np.inf, self._shape, np.float32)
        if action_mask:
            seen = Dict({"action_mask": MultiBinary(self.num_actions), "observations": seen})
        self.possible_agents: tuple[str, ...] = tuple(f"player_{p}" for p in range(self.game.num_players()))
        self.observation_spaces = dict.fromkeys(self.possible_agents, seen)
        self.action_spaces = dict.fromkeys(self.possible_agents, Discrete(self.num_actions))
        self.state: Any = self.game.new_initial_state()
        """The game's own state: read it, but leave playing to `step`."""
        self._rng = np.random.default_rng()
        self._returns: list[float] = []
        self._legal: dict[str, list[int]] = {}
        """Legal actions of the agents that are to act."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Tree], dict[str, Any]]:
        """Begin a game."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.state = self.game.new_initial_state()
        self._returns = [0.0] * len(self.possible_agents)
        self._settle_chance()
        return self._begin_turn(), {}

    def step(
        self, actions: dict[Any, Any]
    ) -> tuple[dict[Any, Any], dict[Any, float], dict[Any, bool], dict[Any, bool], dict[Any, Any]]:
        """Let those whose turn it is act; the game's last step gives no observations.

        Raises:
            EnvError: the game is over, others act than those whose turn it is, or an action is not legal.
        """
        self._check(actions)
        if self.state.is_simultaneous_node():  # OpenSpiel takes 0 for those without a choice
            self.state.apply_actions([int(actions.get(agent, 0)) for agent in self.possible_agents])
        else:
            self.state.apply_action(int(next(iter(actions.values()))))
        self._settle_chance()
        before, self._returns = self._returns, self.state.returns()
        shares = zip(self.possible_agents, self._returns, before, strict=True)
        rewards = {agent: now - then for agent, now, then in shares}
        over = self.state.is_terminal()
        obs = self._begin_turn()
        return obs, rewards, {EVERYONE: over}, {}, {}

    def observe(self, state: Any, player: int) -> Tree:
        """Return what an agent sees.

        Args:
            state: Of this game, at a node where players act.
            player: Number of the agent.
        """
        self._observer.set_from(state, player)
        seen = self._observer.tensor.reshape(self._shape).copy()
        if not self.has_mask:
            return seen
        mask = np.zeros(self.num_actions, np.int8)
        mask[state.legal_actions(player)] = 1
        return {"action_mask": mask, "observations": seen}

    def render(self) -> str:
        """Return the game's text of its state, hidden information included."""
        return str(self.state)

    def get_state(self) -> dict[str, Any] | None:
        """Return where the game and its random numbers are; None for games that OpenSpiel cannot write down."""
        try:
            state = self.state.serialize()
        except open_spiel("pyspiel").SpielError:
            return None
        return {"game": str(self.game), "state": state, "rng": self._rng.bit_generator.state}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `get_state` was called.

        Raises:
            CheckpointError: it was another game, or OpenSpiel cannot read what it wrote.
        """
        if state["game"] != str(self.game):
            raise CheckpointError(f"The saved env state is of {state['game']}, this env plays {self.game}.")
        try:
            self.state = self.game.deserialize_state(state["state"])
        except open_spiel("pyspiel").SpielError as error:
            raise CheckpointError(f"OpenSpiel cannot read what it wrote of {self.game}: {error}") from error
        self._rng.bit_generator.state = state["rng"]
        self._returns = self.state.returns()
        self._begin_turn()

    def _choose_tensor(self, observation: Observation, is_hidden: bool) -> tuple[int, ...]:
        """Set up what writes the players' tensors, and return their shape."""
        kind = self.game.get_type()
        has: dict[Observation, bool] = {
            "information_state": kind.provides_information_state_tensor,
            "observation": kind.provides_observation_tensor,
        }
        given: list[Observation] = [name for name, there_is in has.items() if there_is]
        if not given:
            raise EnvError(f"OpenSpielEnv: {self.game} has no tensor of what players know, which a network could take.")
        if observation == "auto":
            observation = given[0 if is_hidden else -1]
        if observation not in given:
            raise EnvError(f"OpenSpielEnv: {self.game} has no tensor for {observation!r}, only for {given[0]!r}.")
        pyspiel, module = open_spiel("pyspiel"), open_spiel("open_spiel.python.observation")
        remembers = observation == "information_state"
        # With no type a game gives what `observation_tensor` does; many give it with no other.
        wanted = pyspiel.IIGObservationType(perfect_recall=True) if remembers else None
        try:
            self._observer: Any = module.make_observation(self.game, wanted)
            shape = self.game.information_state_tensor_shape() if remembers else self.game.observation_tensor_shape()
        except pyspiel.SpielError as error:
            raise EnvError(f"OpenSpielEnv: {self.game} has no tensor for {observation!r}: {error}") from error
        return tuple(shape)

    def _settle_chance(self) -> None:
        """Draw the outcomes of chance nodes until players act or the game is over."""
        while self.state.is_chance_node():
            outcomes, probabilities = zip(*self.state.chance_outcomes(), strict=True)
            self.state.apply_action(choose(outcomes, probabilities, self._rng))

    def _begin_turn(self) -> dict[str, Tree]:
        """Note who acts next, with which legal actions, and return what they see."""
        self._legal = {}
        if self.state.is_terminal():
            return {}
        if self.state.is_simultaneous_node():
            choices = {agent: self.state.legal_actions(p) for p, agent in enumerate(self.possible_agents)}
            self._legal = {agent: legal for agent, legal in choices.items() if legal}
            who = "every agent"
        else:
            agent, legal = self.possible_agents[self.state.current_player()], self.state.legal_actions()
            self._legal = {agent: legal} if legal else {}
            who = f"agent {agent!r}"
        if not self._legal:
            raise EnvError(f"{self._where()}: {who} has no legal action, but the game is not over.")
        players = enumerate(self.possible_agents)
        return {agent: self.observe(self.state, player) for player, agent in players if agent in self._legal}

    def _check(self, actions: Mapping[Any, Any]) -> None:
        """Refuse actions that are out of turn or not legal."""
        if self.state.is_terminal():
            raise EnvError(f"{self._where()}: the game is over. Call reset.")
        if actions.keys() != self._legal.keys():
            raise EnvError(f"{self._where()}: got actions of {list(actions)}, expected those of {list(self._legal)}.")
        for agent, action in actions.items():
            legal = self._legal[agent]
            if int(action) not in legal:
                shown = ", ".join(map(str, legal[:12])) + (", ..." if len(legal) > 12 else "")
                raise EnvError(
                    f"{self._where()}: action {action} of agent {agent!r} is not legal, only {shown}. Play with a "
                    "policy that heeds the mask, such as MaskedActorCritic."
                )

    def _where(self) -> str:
        """Name the game and the move."""
        return f"{self.game}, move {self.state.move_number()}"


def open_spiel(module: str) -> Any:
    """Import a module of OpenSpiel.

    Raises:
        EnvError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EnvError(
            f'OpenSpiel is needed here ({error}): install the extra: pip install "rl-multiagent[openspiel]"'
        ) from error
