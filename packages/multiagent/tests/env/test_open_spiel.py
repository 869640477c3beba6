"""Games of OpenSpiel as envs, next to the games themselves."""

import copy
import subprocess
import sys

import numpy as np
import pytest
from gymnasium.spaces import Box
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduled_env import make_context

from rl_core import APPOConfig, DQNConfig, IMPALAConfig, PPOConfig, SACConfig
from rl_core.errors import CheckpointError, ConfigError, EnvError
from rl_core.module import MaskedActorCritic, MaskedActorQ, MaskedQNetwork
from rl_multiagent import MultiAgent
from rl_multiagent.env.open_spiel import OpenSpielEnv

pyspiel = pytest.importorskip("pyspiel")

GAMES = (
    "tic_tac_toe",
    "connect_four",
    "kuhn_poker(players=3)",
    "leduc_poker",
    "matrix_rps",
    "goofspiel(num_cards=4,imp_info=True)",
    "markov_soccer(horizon=20)",  # simultaneous, then chance
    "backgammon",  # chance all along
    "coop_box_pushing(horizon=20)",  # rewards on the way
    "first_sealed_auction",  # one move each, with different legal actions
)


def random_actions(obs, rng):
    return {agent: int(rng.choice(np.flatnonzero(seen["action_mask"]))) for agent, seen in obs.items()}


@settings(max_examples=60)
@given(game=st.sampled_from(GAMES), seed=st.integers(0, 10_000))
def test_rewards_masks_and_observations_are_the_games(game, seed):
    env, rng = OpenSpielEnv(game), np.random.default_rng(seed)
    uses_information_state = "poker" in game or "goofspiel" in game or "auction" in game
    obs, _ = env.reset(seed=seed)
    total, over, num_steps = np.zeros(len(env.possible_agents)), False, 0
    while not over and num_steps < 200:
        state = env.state
        players = range(len(env.possible_agents))
        acting = [p for p in players if state.is_simultaneous_node() or state.current_player() == p]
        assert list(obs) == [f"player_{p}" for p in acting if state.legal_actions(p)]
        for agent, seen in obs.items():
            player = env.possible_agents.index(agent)
            assert env.observation_spaces[agent].contains(seen)
            assert np.flatnonzero(seen["action_mask"]).tolist() == state.legal_actions(player)
            tensor = state.information_state_tensor if uses_information_state else state.observation_tensor
            np.testing.assert_array_equal(seen["observations"], np.array(tensor(player), np.float32))
        obs, rewards, terminateds, truncateds, _ = env.step(random_actions(obs, rng))
        assert not any(truncateds.values())
        total += [rewards[agent] for agent in env.possible_agents]
        np.testing.assert_allclose(total, env.state.returns(), atol=1e-9)
        over, num_steps = terminateds["__all__"], num_steps + 1
        assert over == env.state.is_terminal()
        assert bool(obs) != over


@pytest.mark.parametrize("game", ["coop_box_pushing(horizon=30)", "catch", "cliff_walking(horizon=30)"])
def test_rewards_on_the_way_are_those_that_the_game_reports(game):
    env, rng = OpenSpielEnv(game), np.random.default_rng(0)
    obs, _ = env.reset(seed=0)
    over, seen = False, 0
    while not over:
        obs, rewards, terminateds, _, _ = env.step(random_actions(obs, rng))
        np.testing.assert_allclose(list(rewards.values()), env.state.rewards(), atol=1e-9)
        seen += any(rewards.values())
        over = terminateds["__all__"]
    assert seen


def test_who_does_not_move_gets_its_reward_once():
    env = OpenSpielEnv("tic_tac_toe")
    env.reset()
    for cell in (0, 3, 1, 4, 2):
        obs, rewards, terminateds, _, _ = env.step({f"player_{env.state.current_player()}": cell})
    assert (rewards, terminateds, obs) == ({"player_0": 1.0, "player_1": -1.0}, {"__all__": True}, {})


def test_chance_is_drawn_with_its_probabilities_from_the_envs_seed():
    env = OpenSpielEnv("kuhn_poker")
    env.reset(seed=0)
    deals = []
    for _ in range(1200):
        deals.append(tuple(env.state.history()))
        env.reset()
    counts = [deals.count((first, second)) for first in range(3) for second in range(3) if first != second]
    assert sum(counts) == 1200
    assert all(150 < count < 250 for count in counts)  # 200 expected, standard deviation 13
    env.reset(seed=0)
    for deal in deals[:20]:
        assert tuple(env.state.history()) == deal
        env.reset()


def test_unequal_chances_are_drawn_as_the_game_says():
    class Chance:
        """A chance node with three outcomes."""

        drawn = None

        def is_chance_node(self):
            return self.drawn is None

        def chance_outcomes(self):
            return [(3, 0.1), (5, 0.6), (9, 0.3)]

        def apply_action(self, action):
            self.drawn = action

    env = OpenSpielEnv("kuhn_poker")
    env.reset(seed=0)
    drawn = []
    for _ in range(4000):
        env.state = Chance()
        env._settle_chance()
        drawn.append(env.state.drawn)
    np.testing.assert_allclose([drawn.count(action) / 4000 for action in (3, 5, 9)], [0.1, 0.6, 0.3], atol=0.025)


@pytest.mark.parametrize(
    ("game", "observation", "flatten", "shape"),
    [
        ("connect_four", "auto", True, (126,)),
        ("connect_four", "observation", False, (3, 6, 7)),
        ("kuhn_poker", "auto", True, (11,)),
        ("kuhn_poker", "observation", True, (7,)),
        ("hearts", "auto", True, (5088,)),
    ],
)
def test_observations_are_the_tensors_asked_for(game, observation, flatten, shape):
    env = OpenSpielEnv(game, observation=observation, flatten=flatten, action_mask=False)
    obs, _ = env.reset(seed=0)
    (seen,) = obs.values()
    assert seen.shape == shape
    assert env.observation_spaces["player_0"] == Box(-np.inf, np.inf, shape, np.float32)


class RecordedGame(OpenSpielEnv):
    """Keeps the whole history of each finished game."""

    def __init__(self, game):
        super().__init__(game)
        self.games = []

    def step(self, actions):
        result = super().step(actions)
        if self.state.is_terminal():
            self.games.append([(int(part.player), int(part.action)) for part in self.state.full_history()])
        return result


def replay(game, history):
    """Play a history in pyspiel alone; return each player's transitions (obs, mask, action, reward, terminated)."""
    state, moves = game.new_initial_state(), list(history)
    done = [[] for _ in range(game.num_players())]
    opened = [None] * game.num_players()
    hidden = game.get_type().information == pyspiel.GameType.Information.IMPERFECT_INFORMATION
    while not state.is_terminal():
        if state.is_chance_node():
            state.apply_action(moves.pop(0)[1])
            continue
        players = range(game.num_players()) if state.is_simultaneous_node() else [state.current_player()]
        actions = [moves.pop(0)[1] for _ in players]
        for player, action in zip(players, actions, strict=True):
            tensor = state.information_state_tensor if hidden else state.observation_tensor
            if opened[player] is not None:
                done[player].append((*opened[player], 0.0, False))
            opened[player] = (tensor(player), state.legal_actions_mask(player), action)
        state.apply_actions(actions) if state.is_simultaneous_node() else state.apply_action(actions[0])
    for player, value in enumerate(state.returns()):
        if opened[player] is not None:
            done[player].append((*opened[player], value, True))
    return done


@pytest.mark.parametrize("game", ["tic_tac_toe", "kuhn_poker", "leduc_poker", "matrix_rps", GAMES[5]])
def test_rollouts_of_the_runner_are_what_pyspiel_says_of_the_same_actions(game):
    num_envs, num_steps = 3, 7
    config = (
        PPOConfig()
        .environment(RecordedGame, env_config={"game": game})
        .env_runners(num_envs_per_env_runner=num_envs)
        .training(train_batch_size_per_learner=num_envs * num_steps, minibatch_size=1)
        .rl_module(module_class=MaskedActorCritic, model_config={"fcnet_hiddens": (8,)})
        .use(MultiAgent())
    )
    runner = config.components().env_runner(config, "sampling", make_context())
    found = {}
    for _ in range(12):
        rollout = runner.sample().by_policy["default"]
        slots = runner._slots["default"]
        for slot in range(rollout.reward.shape[1]):
            rows = range(len(rollout.reward)) if rollout.valid is None else rollout.valid[:, slot].nonzero()[:, 0]
            for time in rows:
                found.setdefault((int(slots.env_of[slot]), slots.agents[slot]), []).append(
                    (
                        rollout.obs["observations"][time, slot].tolist(),
                        rollout.obs["action_mask"][time, slot].tolist(),
                        int(rollout.action[time, slot]),
                        float(rollout.reward[time, slot]),
                        bool(rollout.terminated[time, slot]),
                    )
                )
    envs = [slot.env for slot in runner.env._slots]
    assert sum(len(env.games) for env in envs) >= 10
    for place, env in enumerate(envs):
        expected = [[] for _ in env.possible_agents]
        for history in env.games:
            for player, part in enumerate(replay(env.game, history)):
                expected[player] += part
        for player, agent in enumerate(env.possible_agents):
            got = found.get((place, agent), [])
            assert len(got) >= len(expected[player])
            for mine, theirs in zip(got, expected[player], strict=False):
                np.testing.assert_allclose(mine[0], theirs[0], atol=1e-6)
                assert mine[1:] == theirs[1:]


@pytest.mark.parametrize("game", ["leduc_poker", "goofspiel(num_cards=4,imp_info=True)"])
def test_a_saved_game_goes_on_exactly(game):
    env, rng = OpenSpielEnv(game), np.random.default_rng(3)
    obs, _ = env.reset(seed=5)
    obs, *_ = env.step(random_actions(obs, rng))
    saved = env.get_state()
    again = OpenSpielEnv(game)
    again.reset(seed=99)
    again.set_state(saved)
    for _ in range(40):
        actions = random_actions(obs, rng)
        (obs, *one), (other, *two) = env.step(actions), again.step(actions)
        assert str(env.state) == str(again.state)
        assert one == two
        if one[1]["__all__"]:
            (obs, _), (other, _) = env.reset(), again.reset()
        assert obs.keys() == other.keys()
    with pytest.raises(CheckpointError, match="is of leduc|is of goofspiel"):
        OpenSpielEnv("tic_tac_toe").set_state(saved)


def test_a_runners_state_holds_the_open_games():
    config = (
        PPOConfig()
        .environment(OpenSpielEnv, env_config={"game": "leduc_poker"})
        .env_runners(num_envs_per_env_runner=2)
        .training(train_batch_size_per_learner=10, minibatch_size=1)
        .rl_module(module_class=MaskedActorCritic, model_config={"fcnet_hiddens": (8,)})
        .use(MultiAgent())
    )
    first, second = (config.components().env_runner(config, "sampling", make_context()) for _ in range(2))
    first.sample()
    second.set_state(copy.deepcopy(first.get_state()))
    for _ in range(3):
        one, two = first.sample().by_policy["default"], second.sample().by_policy["default"]
        assert (one.valid == two.valid).all()
        for mine, theirs in (
            (one.obs["observations"][:-1], two.obs["observations"][:-1]),
            (one.action, two.action),
            (one.reward, two.reward),
        ):
            assert (mine[one.valid] == theirs[two.valid]).all()


@pytest.mark.parametrize(
    ("config", "module_class"),
    [
        (PPOConfig(), MaskedActorCritic),
        (IMPALAConfig().training(minibatch_size=64), MaskedActorCritic),
        (APPOConfig().training(minibatch_size=64), MaskedActorCritic),
        (DQNConfig(), MaskedQNetwork),
        (SACConfig(), MaskedActorQ),
    ],
    ids=["ppo", "impala", "appo", "dqn", "sac"],
)
def test_learning_with_a_masked_module_never_plays_an_illegal_action(config, module_class):
    algorithm = (
        config.environment(OpenSpielEnv, env_config={"game": "tic_tac_toe"})
        .env_runners(num_envs_per_env_runner=4)
        .training(train_batch_size_per_learner=64)
        .reporting(min_sample_timesteps_per_iteration=256)
        .rl_module(module_class=module_class, model_config={"fcnet_hiddens": (16,)})
        .debugging(seed=0)
        .use(MultiAgent())
        .build()
    )
    for _ in range(4):
        result = algorithm.train()
    losses = [value for name, value in result.items() if name.startswith("learner/") and name.endswith("_loss")]
    assert losses
    assert np.isfinite(losses).all()
    algorithm.stop()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ({"player_0": 4}, "move 1: got actions of .'player_0'., expected those of .'player_1'."),
        ({}, "got actions of"),
        ({"player_1": 0}, "move 1: action 0 of agent 'player_1' is not legal, only 1, 2, 3"),
        ({"player_1": 9}, "action 9 of agent 'player_1' is not legal"),
    ],
)
def test_wrong_actions_are_refused_and_change_nothing(actions, message):
    env = OpenSpielEnv("tic_tac_toe")
    env.reset()
    env.step({"player_0": 0})
    before = str(env.state)
    with pytest.raises(EnvError, match=message):
        env.step(actions)
    assert str(env.state) == before


@pytest.mark.parametrize("simultaneous", [False, True])
def test_a_game_without_a_legal_action_is_named(simultaneous):
    class Stuck:
        """A state in which whoever is to act cannot."""

        def is_chance_node(self):
            return False

        is_terminal = is_chance_node

        def is_simultaneous_node(self):
            return simultaneous

        def current_player(self):
            return 1

        def move_number(self):
            return 7

        def legal_actions(self, player=1):
            return []

    env = OpenSpielEnv("kuhn_poker")
    env.game = type("Game", (), {"new_initial_state": lambda self: Stuck(), "__str__": lambda self: "stuck_game()"})()
    who = "every agent" if simultaneous else "agent 'player_1'"
    with pytest.raises(EnvError, match=rf"stuck_game\(\), move 7: {who} has no legal action"):
        env.reset()


def test_a_game_that_is_over_takes_no_action():
    env = OpenSpielEnv("matrix_rps")
    env.reset()
    env.step({"player_0": 0, "player_1": 1})
    with pytest.raises(EnvError, match="the game is over. Call reset"):
        env.step({"player_0": 0, "player_1": 1})


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"game": "no_such_game"}, EnvError, "'no_such_game' cannot be loaded"),
        ({"game": "kuhn_poker(players=99)"}, EnvError, "cannot be loaded"),
        ({"game": "mfg_crowd_modelling"}, EnvError, "mean field"),
        ({"game": "cribbage"}, EnvError, "no tensor of what players know"),
        ({"game": "tic_tac_toe", "observation": "information_state"}, EnvError, "only for 'observation'"),
        ({"game": "tic_tac_toe", "observation": "all"}, ConfigError, "'all', expected one of auto, information_state"),
    ],
)
def test_what_cannot_be_made_is_refused(settings, error, message):
    with pytest.raises(error, match=message):
        OpenSpielEnv(**settings)


def test_without_open_spiel_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspiel", None)
    with pytest.raises(EnvError, match=r'pip install "rl-multiagent\[openspiel\]"'):
        OpenSpielEnv("tic_tac_toe")


def test_importing_the_package_does_not_import_open_spiel():
    code = (
        "import sys, rl_multiagent, rl_multiagent.selfplay, rl_multiagent.env.open_spiel as module; "
        "assert not {'pyspiel', 'open_spiel'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
