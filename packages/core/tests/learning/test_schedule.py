import pytest
from hypothesis import given
from hypothesis import strategies as st

from rl_core.learning.schedule import value_at

POINTS = ((100.0, 1.0), (200.0, 0.0), (400.0, 0.5))


@pytest.mark.parametrize(
    ("env_steps", "value"),
    [(0, 1.0), (99, 1.0), (100, 1.0), (150, 0.5), (200, 0.0), (300, 0.25), (400, 0.5), (10**9, 0.5)],
)
def test_schedule_joins_its_points_by_lines_and_is_constant_outside(env_steps, value):
    assert value_at(POINTS, env_steps) == pytest.approx(value)


def test_a_number_is_a_constant_schedule():
    assert value_at(0.25, 10**9) == 0.25


def test_one_point_is_a_constant_schedule():
    assert value_at(((10.0, 3.0),), 0) == value_at(((10.0, 3.0),), 20) == 3.0


@given(st.integers(0, 500))
def test_schedule_stays_between_its_values(env_steps):
    assert 0.0 <= value_at(POINTS, env_steps) <= 1.0
