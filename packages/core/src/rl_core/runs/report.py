"""`report.html`: one file about a run that opens without a network, in light and dark."""

from __future__ import annotations

import html
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_core.runs.chart import Line, line_chart
from rl_core.runs.curves import Curve
from rl_core.runs.folder import RunFolder, RunRecord
from rl_core.runs.metrics_file import column, read_rows

if TYPE_CHECKING:
    from rl_core.algorithm.config import AlgorithmConfig

SMALL_CHARTS = (
    ("Episode length", "env_runners/episode_len_mean"),
    ("Entropy", "learner/default/entropy"),
    ("KL per update", "learner/default/kl"),
    ("Clip fraction", "learner/default/clip_fraction"),
    ("Explained variance", "learner/default/explained_variance"),
    ("Value loss", "learner/default/value_loss"),
    ("Gradient norm", "learner/default/grad_norm"),
    ("Env steps per second", "env_steps_per_s"),
)
STATUS_WORDS = {
    "reached": "stop reward reached",
    "limit": "limit came first",
    "finished": "finished",
    "interrupted": "interrupted",
    "failed": "failed",
    "running": "running",
}
CSS = """
:root { color-scheme: light dark; --text: #1d2127; --soft: #5f6772; --page: #f6f7f9; --card: #fff; --line: #e2e5ea;
  --accent: #0072b2; --gray: #8a8f98; --level: #d55e00; --good: #00795a; --bad: #b3400a; }
@media (prefers-color-scheme: dark) { :root { --text: #e7e9ec; --soft: #a2a9b4; --page: #15181c; --card: #1e2227;
  --line: #343a42; --accent: #58b4ee; --gray: #8a919c; --level: #ff8c42; --good: #35c495; --bad: #ff8c5a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1000px; padding: 28px 20px 60px; background: var(--page); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 24px; margin: 0 0 2px; } h2 { font-size: 17px; margin: 30px 0 10px; }
.soft, .empty { color: var(--soft); }
.badge { font-size: 13px; padding: 3px 10px; border-radius: 20px; margin-left: 8px;
  border: 1px solid currentColor; vertical-align: 3px; font-weight: 500; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 10px; margin-top: 18px; }
.card, .chart, table, pre, details { background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
.card { padding: 10px 14px; } .card b { display: block; font-size: 21px; font-weight: 600; }
.card span { color: var(--soft); font-size: 13px; }
.chart { padding: 12px; } .chart h3 { margin: 0 0 4px; font-size: 13px; }
.small { display: grid; grid-template-columns: repeat(auto-fit, minmax(270px, 1fr)); gap: 10px; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--line); } .level { stroke: var(--level); stroke-dasharray: 6 4; stroke-width: 1.4; }
.legend span { margin-right: 18px; font-size: 13px; } .legend i { display: inline-block; width: 18px; height: 3px;
  margin-right: 6px; vertical-align: 4px; }
table { border-collapse: collapse; width: 100%; } td { padding: 5px 14px; border-top: 1px solid var(--line); }
tr:first-child td { border-top: 0; } td:first-child { color: var(--soft); width: 40%; }
pre { padding: 12px 14px; overflow-x: auto; margin: 0; font: 13px/1.6 ui-monospace, monospace; }
details { padding: 8px 14px; margin-top: 10px; } details pre { border: 0; padding: 8px 0; }
"""


def curve_of(folder: RunFolder, rows: Sequence[Mapping[str, Any]] | None = None) -> Curve:
    """Read a run's learning curve; repeated evaluations are left out."""
    rows = list(read_rows(folder.metrics_path)) if rows is None else rows
    trained = [row for row in rows if _known(row, "env_runners/episode_return_mean")]
    evaluated = [
        row
        for row in rows
        if _known(row, "evaluation/episode_return_mean")
        and row.get("evaluation/training_iteration") == row.get("training_iteration")
    ]
    return Curve(
        algorithm=folder.record.algorithm,
        env=folder.record.env,
        seed=folder.record.seed,
        train_steps=column(trained, "env_steps"),
        train_return=column(trained, "env_runners/episode_return_mean"),
        evaluation_steps=column(evaluated, "env_steps"),
        evaluation_return=column(evaluated, "evaluation/episode_return_mean"),
        evaluation_std=column(evaluated, "evaluation/episode_return_std"),
        stop_reward=folder.record.limits.reward,
    )


def write_report(folder: RunFolder, config: AlgorithmConfig) -> None:
    """Write `report.html` of a run."""
    rows = list(read_rows(folder.metrics_path))
    curve, record = curve_of(folder, rows), folder.record
    title = html.escape(f"{record.algorithm} on {record.env}")
    tone = {"reached": "good", "finished": "good", "limit": "bad", "failed": "bad"}.get(record.status, "soft")
    started = html.escape(record.started.replace("T", " "))
    body = [
        f'<h1>{title}<span class="badge {tone}">{html.escape(STATUS_WORDS[record.status])}</span></h1>',
        f'<div class="soft">{html.escape(folder.path.name)}, seed {record.seed}, started {started}</div>',
        _cards(record, curve, rows),
        "<h2>Learning curve</h2>",
        _learning_curve(curve),
        "<h2>Training in detail</h2>",
        f'<div class="small">{"".join(_small_charts(rows))}</div>',
        "<h2>Settings that differ from the defaults</h2>",
        _table(config.diff()) or '<p class="soft">none</p>',
        "<details><summary>All settings</summary><pre>"
        + html.escape(json.dumps(config.to_dict()["sections"], indent=2))
        + "</pre></details>",
        "<h2>What next</h2>",
        f"<pre>{html.escape(chr(10).join(_commands(folder.path)))}</pre>",
        "<h2>Ran with</h2>",
        _table(record.versions),
    ]
    # The policy forbids whatever would be fetched: the page needs nothing but itself.
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{CSS}</style>
</head>
<body>
{chr(10).join(body)}
</body>
</html>
"""
    temporary = folder.report_path.with_name("report.html.tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(folder.report_path)


def _known(row: Mapping[str, Any], name: str) -> bool:
    value = row.get(name)
    return isinstance(value, int | float) and math.isfinite(value)


def _cards(record: RunRecord, curve: Curve, rows: Sequence[Mapping[str, Any]]) -> str:
    """The figures that matter, largest first."""
    last = rows[-1] if rows else {}
    evaluation = ("-", "evaluation return")
    if curve.evaluation_return:
        spread = f" ± {curve.evaluation_std[-1]:.1f}" if curve.evaluation_std else ""
        episodes = last.get("evaluation/num_episodes") or 0
        evaluation = (f"{curve.evaluation_return[-1]:.1f}", f"evaluation return{spread}, {episodes:g} episodes")
    steps = last.get("env_steps") or 0
    seconds = record.seconds
    cards = [
        evaluation,
        (f"{max(curve.evaluation_return):.1f}" if curve.evaluation_return else "-", "best evaluation"),
        (f"{curve.train_return[-1]:.1f}" if curve.train_return else "-", "training return, newest episodes"),
        (f"{steps:,}", "env steps"),
        (f"{seconds:.1f} s", "wall time"),
        (f"{steps / seconds:,.0f}" if seconds > 0 else "-", "env steps per second, all included"),
        (f"{last.get('training_iteration') or 0:,}", "iterations"),
    ]
    items = (f'<div class="card"><b>{html.escape(a)}</b><span>{html.escape(b)}</span></div>' for a, b in cards)
    return f'<div class="cards">{"".join(items)}</div>'


def _learning_curve(curve: Curve) -> str:
    lines = [
        Line(x=curve.train_steps, y=curve.train_return, color="var(--gray)", label="training, newest episodes"),
        Line(
            x=curve.evaluation_steps,
            y=curve.evaluation_return,
            deviation=curve.evaluation_std,
            color="var(--accent)",
            label="evaluation, ± 1 standard deviation over episodes",
            markers=True,
        ),
    ]
    names = [(line.color, line.label) for line in lines]
    names += [] if curve.stop_reward is None else [("var(--level)", f"stop reward {curve.stop_reward:g}")]
    legend = "".join(f'<span><i style="background:{color}"></i>{html.escape(name)}</span>' for color, name in names)
    svg = line_chart(lines, x_label="env steps", y_label="episode return", level=curve.stop_reward)
    return f'<div class="chart">{svg}<div class="legend">{legend}</div></div>'


def _small_charts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Charts of the figures that tell how the training went; those a run does not have are left out."""
    steps = column(rows, "env_steps")
    charts = []
    for title, name in SMALL_CHARTS:
        values = column(rows, name)
        if any(map(math.isfinite, values)):
            line = Line(x=steps, y=values, color="var(--accent)")
            svg = line_chart([line], width=300, height=170, x_label="env steps", y_label="")
            charts.append(f'<div class="chart"><h3>{html.escape(title)}</h3>{svg}</div>')
    return charts or ['<p class="empty">no iterations yet</p>']


def _table(values: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(str(name))}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in values.items()
    )
    return f"<table>{rows}</table>" if rows else ""


def _commands(path: Path) -> list[str]:
    run = shlex.quote(str(path))
    return [
        f"rl evaluate {run}",
        f"rl record {run} -o episode.mp4",
        f"rl plot {run} -o curve.png",
        f"rl resume {run} --stop-timesteps N",
    ]
