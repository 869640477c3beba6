import dataclasses
import json
import math
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rl_core import MetricsLogger, log_value
from rl_core.metrics import WINDOWED, Reduce, Series, logging_to, mean_of, plain_row, summarise


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


# Reductions over iterations -------------------------------------------------------------------------------------------

FIRST, SECOND, THIRD = [4.0, 1.0, 7.0], [], [2.0, 3.0]
NAN = math.nan


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"reduce": "ema", "ema_coeff": 0.5}, [4.75, 4.75, 3.1875]),
        ({"reduce": "ema"}, [4.0003, 4.0003, pytest.approx(3.97049403)]),
        ({"reduce": "lifetime_sum"}, [12.0, 12.0, 17.0]),
        ({"reduce": "throughput"}, [6.0, 0.0, 2.5]),
        ({"reduce": "mean", "window": 4}, [4.0, 4.0, 3.25]),
        ({"reduce": "mean", "window": 2}, [4.0, 4.0, 2.5]),
        ({"reduce": "min", "window": 3}, [1.0, 1.0, 2.0]),
        ({"reduce": "max", "window": 3}, [7.0, 7.0, 7.0]),
        ({"reduce": "sum", "window": 4}, [12.0, 12.0, 13.0]),
    ],
)
def test_what_lasts_beyond_an_iteration(options, expected):
    metrics = MetricsLogger()
    for values, figure in zip((FIRST, SECOND, THIRD), expected, strict=True):
        for value in values:
            metrics.log_value("a", value, **options)
        assert metrics.reduce(seconds=2.0) == {"a": figure}


def test_percentiles_are_figures_of_their_own():
    metrics = MetricsLogger()
    for value in range(101):
        metrics.log_value("a", value, reduce="percentiles")
        metrics.log_value("b", value, reduce="percentiles", percentiles=[0, 99.5], window=51)
    assert metrics.reduce() == {"a_p5": 5.0, "a_p50": 50.0, "a_p95": 95.0, "b_p0": 50.0, "b_p99.5": 99.75}
    later = metrics.reduce()
    assert [math.isnan(later[key]) for key in ("a_p5", "a_p50", "a_p95")] == [True] * 3
    assert (later["b_p0"], later["b_p99.5"]) == (50.0, 99.75)


def test_a_series_stands_apart_from_the_figures():
    metrics = MetricsLogger()
    for value in FIRST:
        metrics.log_value("all", value, reduce="series")
        metrics.log_value("newest", value, reduce="series", window=2)
    assert metrics.reduce() == {}
    assert metrics.media == {"all": Series(FIRST), "newest": Series([1.0, 7.0])}
    assert metrics.reduce() == {}
    assert metrics.media == {"newest": Series([1.0, 7.0])}


def test_an_average_begins_anew_after_nan():
    metrics = MetricsLogger()
    for value in (1.0, NAN, 5.0, 7.0):
        metrics.log_value("a", value, reduce="ema", ema_coeff=0.5)
    assert metrics.reduce() == {"a": 6.0}


def test_throughput_is_per_second_since_the_last_call_where_no_time_is_given(monkeypatch):
    clock = iter([100.0, 104.0, 105.0])
    monkeypatch.setattr("rl_core.metrics.time.perf_counter", lambda: next(clock))
    metrics = MetricsLogger()
    metrics.log_value("a", 6, reduce="throughput")
    assert metrics.reduce() == {"a": 1.5}
    metrics.log_value("a", 3, reduce="throughput")
    assert metrics.reduce() == {"a": 3.0}


def test_a_timer_logs_the_seconds_of_its_block(monkeypatch):
    clock = iter([0.0, 1.0, 1.5, 2.0, 4.0, 5.0, 5.5, 9.0, 10.0])
    monkeypatch.setattr("rl_core.metrics.time.perf_counter", lambda: next(clock))
    metrics = MetricsLogger()
    for _ in range(2):
        with metrics.timer("work_s"):
            pass
    with metrics.timer("longest_s", reduce="max"):
        pass
    with pytest.raises(KeyError), metrics.timer("failed_s"):
        raise KeyError
    assert metrics.reduce() == {"work_s": 2.5, "longest_s": 0.5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduce": "median"}, "reduce='median', expected one of mean, min, max, sum, last, ema, lifetime_sum"),
        ({"reduce": "last", "window": 3}, "window=3 with reduce='last'; a window goes with mean, min, max, sum"),
        ({"reduce": "ema", "window": 3}, "window=3 with reduce='ema'"),
        ({"reduce": "throughput", "window": 3}, "window=3 with reduce='throughput'"),
        ({"window": 0}, "window=0, expected at least 1"),
        ({"ema_coeff": 0.1}, "ema_coeff=0.1 with reduce='mean'; it goes with reduce='ema'"),
        ({"reduce": "ema", "ema_coeff": 0.0}, r"ema_coeff=0.0, expected a number in \(0, 1\]"),
        ({"reduce": "ema", "ema_coeff": 1.5}, "ema_coeff=1.5, expected"),
        ({"percentiles": [50]}, r"percentiles=\(50,\) with reduce='mean'; they go with reduce='percentiles'"),
        ({"reduce": "percentiles", "percentiles": [101]}, "expected numbers from 0 to 100"),
        ({"reduce": "percentiles", "percentiles": []}, "expected numbers from 0 to 100"),
    ],
)
def test_options_that_do_not_go_together_are_refused_and_leave_no_key(options, message):
    metrics = MetricsLogger()
    with pytest.raises(ValueError, match=r"log_value\('a'\): got .*" + message):
        metrics.log_value("a", 1.0, **options)
    assert metrics.reduce() == {}


def test_another_window_for_the_same_key_is_refused():
    metrics = MetricsLogger()
    metrics.log_value("a", 1.0, window=3)
    with pytest.raises(
        ValueError, match="got reduce='mean', window=4, but this key began with reduce='mean', window=3"
    ):
        metrics.log_value("a", 1.0, window=4)


# Pictures -------------------------------------------------------------------------------------------------------------


def test_pictures_are_copied_as_bytes_and_the_newest_counts():
    metrics, grey = MetricsLogger(), np.zeros((2, 3))
    metrics.log_image("map", grey)
    grey[0, 0] = 1.0
    metrics.log_image("map", grey)
    grey[:] = 0.0
    metrics.log_video("film", np.full((4, 2, 2, 3), 7, np.uint8), fps=10)
    assert metrics.reduce() == {}
    assert metrics.media["map"].pixels.tolist() == [[[255], [0], [0]], [[0], [0], [0]]]
    assert (metrics.media["film"].fps, metrics.media["film"].frames.shape) == (10.0, (4, 2, 2, 3))
    metrics.reduce()
    assert metrics.media == {}


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(3), r"the shape \(3,\), expected \[H, W\] or \[H, W, C\] with 1, 3 or 4"),
        (np.zeros((2, 2, 2)), r"the shape \(2, 2, 2\)"),
        (np.zeros((0, 2, 3)), r"the shape \(0, 2, 3\)"),
        (np.full((2, 2), 2.0), "floats from 2 to 2, expected 0 to 1"),
        (np.full((2, 2), NAN), "floats from nan to nan"),
        (np.zeros((2, 2), np.int64), "int64, expected uint8, or floats from 0 to 1"),
    ],
)
def test_what_is_no_picture_is_refused(image, message):
    with pytest.raises(ValueError, match=r"log_image\('a'\): got " + message):
        MetricsLogger().log_image("a", image)


def test_what_is_no_video_is_refused():
    with pytest.raises(ValueError, match=r"log_video\('a'\): got the shape \(2, 2, 3\), expected \[T, H, W, C\]"):
        MetricsLogger().log_video("a", np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match=r"got fps=0, expected a number greater than 0"):
        MetricsLogger().log_video("a", np.zeros((1, 2, 2, 3)), fps=0)


def test_a_key_holds_numbers_or_pictures():
    metrics = MetricsLogger()
    metrics.log_value("a", 1.0)
    metrics.log_image("b", np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"log_image\('a'\): this key holds numbers"):
        metrics.log_image("a", np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"log_value\('b'\): this key holds a picture"):
        metrics.log_value("b", 1.0)


# Several loggers ------------------------------------------------------------------------------------------------------

OPTIONS = {
    **{reduce: {"reduce": reduce} for reduce in get_args(Reduce)},
    **{f"windowed {reduce}": {"reduce": reduce, "window": 3} for reduce in WINDOWED},
    "quick ema": {"reduce": "ema", "ema_coeff": 0.3},
    "quartiles": {"reduce": "percentiles", "percentiles": (25, 75)},
}
LOG = st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from(sorted(OPTIONS)), st.floats(-1e6, 1e6))
EVENTS = st.lists(st.one_of(LOG, st.sampled_from(["merge", "reduce"]), st.just("picture")), max_size=60)


@given(EVENTS)
def test_merged_loggers_are_one_logger_that_got_all_values_in_order(events):
    runners, merged, literal = [MetricsLogger() for _ in range(3)], MetricsLogger(), MetricsLogger()
    pending = [[], [], []]
    for place, event in enumerate([*events, "merge", "reduce"]):
        if event == "merge":
            for runner, logged in zip(runners, pending, strict=True):
                merged.merge(pickle.loads(pickle.dumps(runner.take())))
                for call in logged:
                    call(literal)
                logged.clear()
        elif event == "reduce":
            np.testing.assert_equal(merged.reduce(seconds=2.0), literal.reduce(seconds=2.0))
            assert merged.media.keys() == literal.media.keys()
            for key, item in merged.media.items():
                np.testing.assert_equal(dataclasses.asdict(item), dataclasses.asdict(literal.media[key]))
        elif event == "picture":
            images = (np.full((1, 1), place % 256, np.uint8), np.full((2, 1, 1, 3), place % 256, np.uint8))
            calls = [lambda to, i=images: to.log_image("image", i[0]), lambda to, i=images: to.log_video("film", i[1])]
            for call in calls:
                call(runners[place % 3])
                pending[place % 3].append(call)
        else:
            number, key, value = event
            runners[number].log_value(key, value, **OPTIONS[key])
            pending[number].append(lambda to, k=key, v=value: to.log_value(k, v, **OPTIONS[k]))


def test_what_is_taken_is_plain_and_gone():
    metrics = MetricsLogger()
    assert metrics.take() == {}
    metrics.log_value("a", 1, reduce="percentiles", percentiles=[50])
    metrics.log_image("b", np.zeros((1, 1)))
    data = metrics.take()
    assert data["values"] == {
        "a": {"reduce": "percentiles", "window": None, "ema_coeff": None, "percentiles": (50,), "values": [1.0]}
    }
    assert data["images"]["b"].tolist() == [[[0]]]
    assert metrics.take() == {}


def test_merging_other_options_for_a_key_is_refused():
    metrics, other = MetricsLogger(), MetricsLogger()
    metrics.log_value("a", 1.0, reduce="max")
    other.log_value("a", 1.0, reduce="min")
    with pytest.raises(ValueError, match="got reduce='min', but this key began with reduce='max'"):
        metrics.merge(other.take())


def test_a_restored_logger_goes_on_as_the_saved_one():
    metrics, again = MetricsLogger(), MetricsLogger()
    for _ in range(2):
        for key, options in OPTIONS.items():
            for value in FIRST:
                metrics.log_value(key, value, **options)
        if not metrics.media:
            metrics.reduce()
    again.set_state(json.loads(json.dumps(metrics.get_state())))
    for logger in (metrics, again):
        for key, options in OPTIONS.items():
            logger.log_value(key, 5.0, **options)
    np.testing.assert_equal(again.reduce(seconds=2.0), metrics.reduce(seconds=2.0))
    assert again.media == metrics.media


# The function ---------------------------------------------------------------------------------------------------------


def test_the_function_writes_to_the_logger_in_use():
    outer, inner = MetricsLogger(), MetricsLogger()
    log_value("a", 1.0)
    with logging_to(outer):
        log_value("a", 2.0, reduce="max")
        with logging_to(inner):
            log_value("a", 3.0)
        with logging_to(None):
            log_value("a", 4.0, reduce="max")
        log_value("a", 1.0, reduce="max")
    log_value("a", 9.0)
    assert (outer.reduce(), inner.reduce()) == ({"a": 2.0}, {"a": 3.0})


def test_each_thread_has_its_own_logger_in_use():
    loggers = [MetricsLogger() for _ in range(4)]

    def work(metrics):
        with logging_to(metrics):
            for _ in range(500):
                log_value("count", 1, reduce="sum")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, loggers))
    log_value("count", 1)
    assert [metrics.reduce() for metrics in loggers] == [{"count": 500.0}] * 4


def test_threads_that_share_a_logger_lose_nothing():
    metrics = MetricsLogger()

    def work(key):
        for number in range(300):
            metrics.log_value(f"{key % 2}/{number}", 1, reduce="sum")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert set(metrics.reduce().values()) == {4.0}


def test_scalars_of_other_libraries_become_numbers():
    row = plain_row({"a": np.int64(3), "b": np.float32(0.5), "c": torch.tensor(2.0), "d": 1, "e": "text"})
    assert row == {"a": 3, "b": 0.5, "c": 2.0, "d": 1, "e": "text"}
    assert [type(value) for value in row.values()] == [int, float, float, int, str]
