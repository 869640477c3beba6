import math

import pytest

from rl_core import MetricsLogger
from rl_core.metrics import mean_of, summarise


@pytest.mark.parametrize(
    ("reduce", "expected"), [("mean", 2.0), ("min", 1.0), ("max", 4.0), ("sum", 6.0), ("last", 1.0)]
)
def test_values_of_an_iteration_become_one_number(reduce, expected):
    metrics = MetricsLogger()
    for value in (1, 4, 1):
        metrics.log_value("a/b", value, reduce=reduce)
    assert metrics.reduce() == {"a/b": expected}


@pytest.mark.parametrize("reduce", ["mean", "min", "max", "sum", "last"])
def test_a_key_that_was_logged_once_stays(reduce):
    metrics = MetricsLogger()
    metrics.log_value("a", 3.0, reduce=reduce)
    metrics.reduce()
    (value,) = metrics.reduce().values()
    assert value == 0.0 if reduce == "sum" else math.isnan(value)


def test_values_begin_anew_each_iteration():
    metrics = MetricsLogger()
    metrics.log_value("a", 1.0)
    metrics.reduce()
    metrics.log_value("a", 5.0)
    assert metrics.reduce() == {"a": 5.0}


def test_an_unknown_reduction_is_refused_and_leaves_no_key():
    metrics = MetricsLogger()
    with pytest.raises(ValueError, match=r"log_value\('a'\): got reduce='median', expected one of mean, min"):
        metrics.log_value("a", 1.0, reduce="median")
    assert metrics.reduce() == {}


def test_another_reduction_for_the_same_key_is_refused():
    metrics = MetricsLogger()
    metrics.log_value("a", 1.0, reduce="max")
    with pytest.raises(ValueError, match="this key began with reduce='max'"):
        metrics.log_value("a", 1.0)


def test_what_is_no_number_is_refused():
    with pytest.raises((TypeError, ValueError)):
        MetricsLogger().log_value("a", "x")


def test_summary_of_no_episodes_is_nan_under_the_same_names():
    empty, full = summarise("p", [], [], {"part": []}), summarise("p", [1.0, 3.0], [4, 8], {"part": [5.0, 7.0]})
    assert list(empty) == list(full)
    assert all(math.isnan(value) for value in empty.values())
    assert full == {
        "p/episode_return_mean": 2.0,
        "p/episode_return_min": 1.0,
        "p/episode_return_max": 3.0,
        "p/episode_len_mean": 6.0,
        "p/part": 6.0,
    }


def test_the_mean_of_reports_leaves_out_what_was_not_known():
    reports = [{"a": 1.0, "b": math.nan}, {"a": 3.0, "b": 4.0, "c": math.nan}, {"d": 7.0}]
    means = mean_of(reports)
    assert list(means) == ["a", "b", "c", "d"]
    assert (means["a"], means["b"], means["d"]) == (2.0, 4.0, 7.0)
    assert math.isnan(means["c"])


def test_the_mean_of_one_report_is_that_report():
    assert mean_of([{"a": 1.5, "b": -2.0}]) == {"a": 1.5, "b": -2.0}
    assert mean_of([{}, {}]) == {}
