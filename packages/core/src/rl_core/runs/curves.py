"""Learning curves drawn with Matplotlib: of one run, and of several with mean and band over their seeds.

This file imports nothing of rl_core: `picture.py` also loads it by its path, in a process that need not import torch.
"""

from __future__ import annotations

import io
import json
import math
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")  # Okabe and Ito 2008
GRAY = "#8a8f98"
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5b616b",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e6ea",
    "grid.linewidth": 0.8,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "savefig.facecolor": "white",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """The returns of one run against env steps; unknown values are left out."""

    algorithm: str
    env: str
    seed: int
    train_steps: list[float] = field(default_factory=list)
    train_return: list[float] = field(default_factory=list)
    """Mean return of the newest training episodes."""
    evaluation_steps: list[float] = field(default_factory=list)
    evaluation_return: list[float] = field(default_factory=list)
    """Mean return of each evaluation."""
    evaluation_std: list[float] = field(default_factory=list)
    """Standard deviation over the episodes of each evaluation."""
    stop_reward: float | None = None


def draw_run(curve: Curve, target: str | BinaryIO) -> None:
    """Draw one run: training and evaluation return in one picture."""
    figure, ((axes,),) = _figure(1, 1)
    axes.plot(curve.train_steps, curve.train_return, color=GRAY, linewidth=1.4, label="training, newest episodes")
    if curve.evaluation_steps:
        steps, mean, std = (np.asarray(values) for values in _evaluation(curve))
        axes.fill_between(steps, mean - std, mean + std, color=COLORS[0], alpha=0.15, linewidth=0)
        label = "evaluation, ± 1 standard deviation over episodes"
        axes.plot(steps, mean, color=COLORS[0], linewidth=1.8, marker="o", markersize=3.5, label=label)
    if curve.stop_reward is not None:
        axes.axhline(curve.stop_reward, color=COLORS[1], linestyle="--", linewidth=1.1, label="stop reward")
    _finish(axes, f"{curve.algorithm} on {curve.env}, seed {curve.seed}")
    legend = axes.get_legend()
    if legend is not None:  # below the axes: three long entries would cover a line inside
        legend.remove()
        figure.legend(loc="outside lower center", ncols=3, fontsize=8.5)
    figure.savefig(target, dpi=120)


def draw_runs(curves: list[Curve], path: str) -> None:
    """Draw several runs: one row per env, evaluation left, training right, one colour per algorithm.

    Seeds of the same algorithm and env share a colour: thin lines for the runs, a thick one for their mean over the
    steps that all of them cover, and a band of one standard deviation.
    """
    envs = list(dict.fromkeys(curve.env for curve in curves))
    algorithms = list(dict.fromkeys(curve.algorithm for curve in curves))
    figure, rows = _figure(len(envs), 2)
    for env, (left, right) in zip(envs, rows, strict=True):
        for index, algorithm in enumerate(algorithms):
            group = [curve for curve in curves if (curve.env, curve.algorithm) == (env, algorithm)]
            color = COLORS[index % len(COLORS)]
            unit = "seeds" if len({curve.seed for curve in group}) == len(group) else "runs"
            label = algorithm if len(group) == 1 else f"{algorithm}, mean ± 1 std of {len(group)} {unit}"
            _draw_group(left, [(c.evaluation_steps, c.evaluation_return) for c in group], label, color)
            _draw_group(right, [(c.train_steps, c.train_return) for c in group], label, color)
        _finish(left, f"{env}: evaluation")
        _finish(right, f"{env}: training, newest episodes")
        limits = [*left.get_ylim(), *right.get_ylim()]
        for axes in (left, right):
            axes.set_ylim(min(limits), max(limits))
    figure.savefig(path, dpi=140)


def mean_and_band(
    lines: list[tuple[list[float], list[float]]], *, num_points: int = 200
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Average lines that were measured at different steps.

    Args:
        lines: Steps (ascending) and values of each run.
        num_points: Points of the common grid, which spans the steps that every run covers.

    Returns:
        Steps, mean and standard deviation (of a sample) at the grid's points; empty where the runs share no steps.
    """
    first, last = max(steps[0] for steps, _ in lines), min(steps[-1] for steps, _ in lines)
    if last < first:
        return np.empty(0), np.empty(0), np.empty(0)
    grid = np.linspace(first, last, num_points)
    values = np.stack([np.interp(grid, steps, line) for steps, line in lines])
    return grid, values.mean(axis=0), values.std(axis=0, ddof=1 if len(lines) > 1 else 0)


def _draw_group(axes: Axes, lines: list[tuple[list[float], list[float]]], label: str, color: str) -> None:
    """Draw the runs of one algorithm on one env; those without a point are passed over."""
    lines = [line for line in lines if line[0]]
    if not lines:
        return
    if len(lines) == 1:
        axes.plot(*lines[0], color=color, linewidth=1.8, label=label)
        return
    for steps, values in lines:
        axes.plot(steps, values, color=color, linewidth=0.8, alpha=0.35)
    grid, mean, std = mean_and_band(lines)
    axes.fill_between(grid, mean - std, mean + std, color=color, alpha=0.18, linewidth=0)
    axes.plot(grid, mean, color=color, linewidth=2.0, label=label)


def _evaluation(curve: Curve) -> tuple[list[float], list[float], list[float]]:
    std = [0.0 if math.isnan(value) else value for value in curve.evaluation_std]
    return curve.evaluation_steps, curve.evaluation_return, std


def _figure(num_rows: int, num_columns: int) -> tuple[Figure, list[list[Axes]]]:
    """Make a figure without pyplot, which would hold on to it and look for a display."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type]
    figure = Figure(figsize=(7.2 if num_columns == 1 else 11.0, 4.2 * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(num_rows, num_columns, squeeze=False)
    return figure, [list(row) for row in axes]


def _finish(axes: Axes, title: str) -> None:
    """Name the axes and place the legend."""
    axes.set_title(title.replace("$", r"\$"))  # an env id is text, not a formula
    axes.set_xlabel("env steps")
    axes.set_ylabel("episode return")
    axes.xaxis.set_major_formatter(lambda value, _: format_count(value))
    axes.set_xlim(left=0)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="best", fontsize=8.5)
    else:
        axes.text(0.5, 0.5, "no finished episodes", transform=axes.transAxes, ha="center", color=GRAY)


def format_count(value: float) -> str:
    """Write a number of steps briefly: 500, 20k, 1.5M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{suffix}"
    return f"{value:g}"


def main() -> None:
    """Import Matplotlib, then wait for a line with a curve on standard input and draw it; end of input ends it."""
    draw_run(_example(), io.BytesIO())  # fonts and drawing code are loaded by this, not at the end of the run
    job = sys.stdin.readline()
    if job:
        values = json.loads(job)
        draw_run(Curve(**values["curve"]), values["path"])


def _example() -> Curve:
    """Make a curve with everything that may be drawn."""
    return Curve(
        algorithm="-",
        env="-",
        seed=0,
        train_steps=[0, 1],
        train_return=[0, 1],
        evaluation_steps=[0, 1],
        evaluation_return=[0, 1],
        evaluation_std=[1, 1],
        stop_reward=1.0,
    )
