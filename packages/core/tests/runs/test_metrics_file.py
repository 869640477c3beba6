import json
import math

import numpy as np
import pytest

from rl_core.metrics import Image, Series
from rl_core.runs.metrics_file import MetricsFile, column, drop_rows_after, last_row, read_rows


def write(path, rows):
    file = MetricsFile(path)
    for row in rows:
        file.write(row, {})
    file.close()


def test_rows_survive_and_nan_becomes_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [{"a": 1, "b": math.nan}, {"a": 2.5, "b": math.inf}])
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1, "b": None}, {"a": 2.5, "b": None}]
    rows = list(read_rows(path))
    assert column(rows, "a") == [1.0, 2.5]
    assert all(map(math.isnan, column(rows, "b") + column(rows, "missing")))


def test_a_line_cut_off_by_a_kill_is_skipped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"training_iteration": 1}\n{"training_iter')
    assert list(read_rows(path)) == [{"training_iteration": 1}]
    assert last_row(path) == {"training_iteration": 1}


def test_missing_file_has_no_rows(tmp_path):
    assert list(read_rows(tmp_path / "none")) == []
    assert last_row(tmp_path / "none") == {}


def test_last_row_of_a_long_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [{"training_iteration": i, "pad": "x" * 100} for i in range(3000)])
    assert last_row(path)["training_iteration"] == 2999


@pytest.mark.parametrize("ending", ["", '{"training_iter', '{"pad": "' + "y" * 300_000])
def test_last_row_is_found_however_long_rows_are(tmp_path, ending):
    path = tmp_path / "metrics.jsonl"
    write(path, [{"training_iteration": i, "pad": "x" * 200_000} for i in range(3)])
    with path.open("a", encoding="utf-8") as file:
        file.write(ending)
    assert last_row(path)["training_iteration"] == 2


def test_a_long_file_without_a_row_has_none(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("no row\n" * 30_000)
    assert last_row(path) == {}


def test_rows_after_an_iteration_are_dropped_and_writing_goes_on(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [{"training_iteration": i} for i in range(1, 6)])
    with path.open("a") as file:
        file.write('{"cut')
    assert drop_rows_after(path, 3) == 2
    write(path, [{"training_iteration": 4}])
    assert [row["training_iteration"] for row in read_rows(path)] == [1, 2, 3, 4]


def test_a_series_is_a_list_and_pictures_are_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    media = {"lengths": Series([1.0, math.nan, 3.0]), "map": Image(np.zeros((2, 2, 1), np.uint8))}
    file.write({"training_iteration": 1}, media)
    file.close()
    assert list(read_rows(path)) == [{"training_iteration": 1, "lengths": [1.0, None, 3.0]}]
    assert all(map(math.isnan, column(read_rows(path), "lengths")))
