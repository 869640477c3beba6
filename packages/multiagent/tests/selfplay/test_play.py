"""A person plays against a policy, through a real terminal's streams and by itself."""

import io
import subprocess
import sys

import pytest
from scripted import Always, make_policy

from rl_core import PPOConfig
from rl_core.errors import ConfigError
from rl_core.module import MaskedActorCritic
from rl_multiagent import MultiAgent
from rl_multiagent.env.open_spiel import OpenSpielEnv
from rl_multiagent.selfplay import play, random_policy
from rl_multiagent.selfplay.__main__ import main

pytest.importorskip("pyspiel")


def run(*arguments, lines):
    command = [sys.executable, "-m", "rl_multiagent.selfplay", *arguments]
    return subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, timeout=600, check=False)


def play_lines(env, policies, person, lines, **settings):
    """Play with answers from a list; return the returns and what was written."""
    answers, written = iter(lines), []

    def read(prompt):
        written.append(prompt)
        try:
            return next(answers)
        except StopIteration:
            raise EOFError from None

    returns = play(env, policies, person=person, seed=0, read=read, write=written.append, **settings)
    return returns, "\n".join(map(str, written))


def test_a_trained_policy_is_played_in_the_terminal(tmp_path):
    algorithm = (
        PPOConfig()
        .environment(OpenSpielEnv, env_config={"game": "connect_four", "flatten": False})
        .training(train_batch_size_per_learner=64, minibatch_size=32)
        .rl_module(module_class=MaskedActorCritic, model_config={"fcnet_hiddens": (8,)})
        .use(MultiAgent())
        .build()
    )
    algorithm.train()
    path = algorithm.save(tmp_path / "checkpoint")
    algorithm.stop()
    lines = ["99", "left", *map(str, range(7))] * 10
    done = run("connect_four", "--checkpoint", str(path), "--side", "1", lines=lines)
    assert done.returncode == 0, done.stderr
    assert "'99' is not a legal move. Legal moves: " in done.stdout
    assert "'left' is not a legal move" in done.stdout
    assert "player_0 plays x" in done.stdout
    assert "The game is over: player_0 got " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tic_tac_toe", "--side", "7"), "there is no player 'player_7'"),
        (("no_such_game",), "'no_such_game' cannot be loaded"),
        (("tic_tac_toe", "--checkpoint", "nowhere"), "no checkpoint directory nowhere"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err


def test_without_a_checkpoint_opponents_play_at_random(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("4\nq\n"))
    main(["tic_tac_toe"])
    shown = capsys.readouterr().out
    assert "player_1 plays o(" in shown
    assert "player_0 gives up." in shown


def test_moves_are_taken_by_number_or_by_name_and_illegal_ones_asked_again():
    env = OpenSpielEnv("tic_tac_toe")
    returns, text = play_lines(
        env, {"player_1": make_policy(Always, env, action=3)}, "player_0", ["0", "0", "x(1,0)", " 1 ", "x(0,2)"]
    )
    assert returns == {"player_0": 1.0, "player_1": -1.0}
    assert text.count("is not a legal move") == 2  # 0 is taken, and x(1,0), which is cell 3, too
    assert text.endswith("The game is over: player_0 got 1, player_1 got -1.")


def test_hidden_cards_are_not_shown_before_the_end():
    env = OpenSpielEnv("kuhn_poker")
    returns, text = play_lines(env, {"player_1": random_policy(env, "player_1")}, "player_0", ["Bet"], explore=True)
    assert returns is not None
    before, after = text.split("your move")
    own, others = (next(pair.action for pair in env.state.full_history()[place:]) for place in (0, 1))
    assert env.state.information_state_string(0)[0] == str(own)
    assert f"{own} {others}" not in before
    assert f"{own} {others}" in after


def test_simultaneous_moves_are_shown_only_when_both_are_made():
    env = OpenSpielEnv("matrix_rps")
    returns, text = play_lines(env, {"player_0": make_policy(Always, env, action=0)}, "player_1", ["Paper"])
    assert returns == {"player_0": -1.0, "player_1": 1.0}
    assert text.index("your move") < text.index("player_0 plays Rock")


@pytest.mark.parametrize("lines", [[], ["0", "Q"], ["quit"]])
def test_a_person_may_give_up(lines):
    env = OpenSpielEnv("tic_tac_toe")
    returns, text = play_lines(env, {"player_1": random_policy(env, "player_1")}, "player_0", lines, explore=True)
    assert returns is None
    assert text.endswith("player_0 gives up.")


def test_everyone_else_needs_a_policy():
    env = OpenSpielEnv("kuhn_poker(players=3)")
    with pytest.raises(ConfigError, match="'player_2' has no policy"):
        play(env, {"player_1": random_policy(env, "player_1")}, person="player_0")
