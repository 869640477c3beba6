"""Draws come as often as their probabilities say."""

import collections

import numpy as np
import pytest

from rl_multiagent.env.chance import choose


def test_options_are_drawn_as_often_as_they_should_be():
    rng = np.random.default_rng(0)
    counts = collections.Counter(choose(("a", "b", "c"), (0.1, 0.0, 0.9), rng) for _ in range(5000))
    assert counts["b"] == 0
    assert counts["a"] / 5000 == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(("number", "expected"), [(0.0, "b"), (0.999999999, "b"), (0.49, "b")])
def test_what_has_no_chance_is_never_drawn_at_the_edges(number, expected):
    class Fixed:
        def random(self):
            return number

    assert choose(("a", "b", "c"), (0.0, 1.0, 0.0), Fixed()) == expected
