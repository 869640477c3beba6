"""The benchmarks run: ours and the bare loop at tiny sizes, some in a process of their own as the command does it."""

import json
import math

import pytest
from benchmarks import cases, ours, report, run, worker
from benchmarks.work import Work

TINY = {"num_envs": 2, "num_steps": 8, "minibatch_size": 8, "num_epochs": 1, "warmup": 1, "seconds": 0.05}


@pytest.mark.parametrize(
    ("contestant", "measurement", "vector"),
    [("ours", "loop", "sync"), ("ours", "sampling", "vector_entry_point"), ("bare", "loop", "vector_entry_point")],
)
def test_throughput_is_measured(contestant, measurement, vector):
    figures = worker.find(contestant, measurement)(Work(**TINY, vector=vector))
    assert figures["env_steps_per_s"] > 0
    assert figures["iterations"] >= 1


def test_each_case_has_what_measures_it():
    of_ours = [name for name, of in cases.CASES.items() if any(case.contestant == "ours" for case in of)]
    assert len(of_ours) > 15
    for name in of_ours:
        assert callable(worker.find("ours", name))


def test_what_connectors_cost_is_measured():
    figures = ours.connectors(Work(num_envs=8, num_steps=64, warmup=1, seconds=0.1))
    assert figures["share"] < 1
    assert figures["bytes_share"] < 1 / 3, "a frame in four travels"


def test_startup_loads_nothing_needless():
    figures = run.run_worker("ours", "startup", {"num_steps": 8})
    assert figures["needless_at_import"] == []
    assert figures["needless_after_iteration"] == []
    assert figures["ready_s"] == pytest.approx(figures["import_s"] + figures["first_iteration_s"])


def test_report_takes_medians_and_ratios():
    measurement = cases.MEASUREMENTS["startup"]
    ours, peer = (cases.Case(contestant=name, group="start") for name in ("ours", "sb3"))
    found = [(ours, [{"ready_s": s} for s in (1.0, 9.0, 2.0)]), (peer, [{"ready_s": s} for s in (8.0, 8.0, 1.0)])]
    results = report.collect(measurement, found)
    assert results["start"]["ours"] == {"ready_s": 2.0, "repeats": [1.0, 9.0, 2.0]}
    assert report.ratios(measurement, results) == {"start: ours / sb3": 4.0}
    assert "4.00" in report.table(measurement, results)


def test_main_prints_one_json_line(capsys, monkeypatch):
    monkeypatch.setattr(
        run, "run_worker", lambda contestant, *_: {"env_steps_per_s": 6.0 if contestant == "ours" else 3.0}
    )
    assert run.main(["loop", "--only", "ours,bare", "--repeats", "2"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["ratios"]["loop"]["8 envs, sync: ours / bare"] == 2.0
    assert math.isfinite(last["machine"]["load"])


def test_missing_peers_say_how_to_install_them(capsys, monkeypatch):
    monkeypatch.setattr(cases.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        run.main(["loop", "--only", "sb3,rllib"])
    message = capsys.readouterr().err
    assert "stable_baselines3, ray not installed" in message
    assert "uv sync --group peers" in message


def test_failing_worker_shows_its_error():
    with pytest.raises(run.WorkerError, match="no_such_measurement"):
        run.run_worker("bare", "no_such_measurement", {})
