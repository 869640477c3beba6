import math
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest

from rl_core import PPOConfig
from rl_core.runs.chart import Line, line_chart, ticks
from rl_core.runs.curves import Curve, draw_runs, format_count, mean_and_band
from rl_core.runs.folder import RunFolder, RunRecord
from rl_core.runs.limits import Limits
from rl_core.runs.metrics_file import MetricsFile
from rl_core.runs.picture import PictureProcess
from rl_core.runs.report import curve_of, write_report


def test_mean_and_band_by_hand():
    lines = [([0.0, 10.0, 20.0], [0.0, 10.0, 20.0]), ([5.0, 15.0], [7.0, 17.0])]
    grid, mean, std = mean_and_band(lines, num_points=3)
    np.testing.assert_allclose(grid, [5, 10, 15])
    np.testing.assert_allclose(mean, [6, 11, 16])
    np.testing.assert_allclose(std, np.sqrt(2))


def test_runs_that_share_no_steps_have_no_mean():
    grid, *_ = mean_and_band([([0.0, 1.0], [0.0, 0.0]), ([2.0, 3.0], [0.0, 0.0])])
    assert len(grid) == 0


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (500, "500"), (20_000, "20k"), (1.5e6, "1.5M"), (2e9, "2G")])
def test_format_count(value, text):
    assert format_count(value) == text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 517), (0, 1e6), (1e-5, 3e-5), (499.99, 500.01)])
def test_ticks_are_few_round_and_inside(low, high):
    values = ticks(low, high)
    assert 2 <= len(values) <= 9
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)


@pytest.mark.parametrize("y", [[1.0], [2.0, 2.0, 2.0], [0.0] * 3, [math.nan, 1.0, math.inf], list(range(5000))])
def test_chart_of_odd_data_is_well_formed(y):
    x = list(range(len(y)))
    line = Line(x=x, y=y, color="red", label="a<b", deviation=[1.0] * len(y), markers=True)
    svg = ElementTree.fromstring(line_chart([line], x_label="<steps>", y_label="&", level=2.0))
    (polyline,) = svg.findall("polyline")
    points = polyline.get("points").split()
    assert len(points) <= 600
    assert all(math.isfinite(float(number)) for point in points for number in point.split(","))


def test_chart_of_nothing():
    assert "no data" in line_chart([Line(x=[], y=[], color="red")], x_label="", y_label="")
    assert "no data" in line_chart([Line(x=[1.0], y=[math.nan], color="red")], x_label="", y_label="")


def a_run(path, *, env="CartPole-v1", iterations=6):
    record = RunRecord(algorithm="ppo", env=env, seed=0, limits=Limits(reward=50.0), versions={"torch": "<9>"})
    folder = RunFolder.create(path, record)
    metrics = MetricsFile(folder.metrics_path)
    for i in range(1, iterations + 1):
        evaluated = i - i % 2
        metrics.write(
            {
                "training_iteration": i,
                "env_steps": 100 * i,
                "env_runners/episode_return_mean": 10.0 * i if i > 1 else math.nan,
                "evaluation/training_iteration": evaluated or math.nan,
                "evaluation/episode_return_mean": 11.0 * evaluated if evaluated else math.nan,
                "evaluation/episode_return_std": 1.0,
                "evaluation/num_episodes": 20,
            },
            {},
        )
    metrics.close()
    return folder


def test_curve_leaves_out_unknown_and_repeated_values(tmp_path):
    curve = curve_of(a_run(tmp_path / "a"))
    assert curve.train_steps == [200, 300, 400, 500, 600]
    assert curve.evaluation_steps == [200, 400, 600]
    assert curve.evaluation_return == [22, 44, 66]
    assert curve.stop_reward == 50.0


class _References(HTMLParser):
    """Collects whatever a page would load, and its elements."""

    def __init__(self):
        super().__init__()
        self.found, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [value for name, value in attrs if name in ("src", "href", "data", "srcset", "action")]


def test_report_loads_nothing_and_escapes_everything(tmp_path):
    evil = "<script>alert(1)</script>-v0"
    folder = a_run(tmp_path / "a'b\"<i>", env=evil)
    write_report(folder, PPOConfig().environment(evil).training(lr=0.5))
    page = folder.report_path.read_text(encoding="utf-8")
    parser = _References()
    parser.feed(page)
    assert parser.found == []
    assert "script" not in parser.tags
    assert "i" in parser.tags, "the legend's own"
    assert "url(" not in page
    assert "@import" not in page
    assert "&lt;script&gt;" in page
    assert "training.lr" in page
    assert "66.0" in page
    assert "&lt;9&gt;" in page
    assert "prefers-color-scheme: dark" in page


def test_report_of_a_run_that_never_iterated(tmp_path):
    folder = a_run(tmp_path / "a", iterations=0)
    write_report(folder, PPOConfig().environment("CartPole-v1"))
    assert "no data yet" in folder.report_path.read_text(encoding="utf-8")


def test_picture_process_draws_or_says_why(tmp_path):
    pytest.importorskip("matplotlib")
    curve = Curve(algorithm="ppo", env="a$b_{", seed=0, train_steps=[1, 2], train_return=[3, 4], stop_reward=5.0)
    process = PictureProcess()
    process.begin(curve, tmp_path / "a.png")
    assert process.wait() is None
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    process = PictureProcess()
    process.begin(curve, tmp_path / "missing/a.png")
    assert "No such file" in process.wait()
    PictureProcess().close()


def test_runs_without_points_are_drawn_as_empty(tmp_path):
    pytest.importorskip("matplotlib")
    curves = [
        Curve(algorithm="ppo", env="a", seed=0),
        Curve(algorithm="ppo", env="b", seed=1, train_steps=[1], train_return=[1]),
    ]
    draw_runs(curves, str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").stat().st_size > 1000
