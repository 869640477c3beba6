import math

import pytest

from rl_core.runs.limits import Limits, Outcome


def test_a_run_without_limits_gets_a_budget():
    assert Limits().bounded().timesteps == 100_000
    assert Limits(reward=1.0).bounded() == Limits(reward=1.0, timesteps=1_000_000)
    assert Limits(iterations=3).bounded() == Limits(iterations=3)


def test_first_limit_that_is_used_up():
    limits = Limits(timesteps=100, time_s=10.0)
    assert limits.exceeded(env_steps=99, iteration=7, seconds=9.9) is None
    assert limits.exceeded(env_steps=100, iteration=7, seconds=0.0) == "timesteps"
    assert limits.exceeded(env_steps=0, iteration=7, seconds=10.0) == "time"


@pytest.mark.parametrize(("value", "reached"), [(4.9, False), (5.0, True), (math.nan, False)])
def test_reached(value, reached):
    assert Limits(reward=5.0).reached(value) is reached
    assert not Limits().reached(value)


def test_updated_keeps_what_is_not_given():
    assert Limits(reward=5.0, iterations=3).updated(Limits(iterations=9)) == Limits(reward=5.0, iterations=9)


def outcome(status, return_mean=10.0):
    return Outcome(
        status=status,
        stopped_by="time",
        return_mean=return_mean,
        num_episodes=20,
        env_steps=4096,
        iteration=2,
        seconds=1.26,
    )


@pytest.mark.parametrize(("status", "code"), [("reached", 0), ("finished", 0), ("limit", 3), ("interrupted", 130)])
def test_exit_codes(status, code):
    assert outcome(status).exit_code == code


def test_outcome_in_words_and_json():
    text = outcome("limit").sentence(Limits(reward=475.0))
    expected = (
        "limit first: time used up before stop reward 475: return 10.0 (20 evaluation episodes), 4,096 env steps, 1.3 s"
    )
    assert text == expected
    assert outcome("finished", math.nan).to_json()["return"] is None
