"""The programs in scripts/: the neutral lock, the size limits, the isolated environments."""

from pathlib import Path

import pytest

import check_sizes
import isolated
import neutral_lock

LOCK = """\
version = 1
revision = 5

[options]
exclude-newer = "2026-11-20T00:00:00Z"
resolution-mode = "lowest-direct"

[options.exclude-newer-package]
rich = "2026-11-21T00:00:00Z"

[manifest]
members = ["rl-core"]

[[package]]
name = "rich"
version = "15.0.0"
source = { registry = "https://index.example/root" }
sdist = { url = "https://files.example/ab/rich-15.0.0.tar.gz", hash = "sha256:0a", size = 1 }
wheels = [
    { url = "https://files.example/rich-15.0.0-py3-none-any.whl#sha256=0b", hash = "sha256:0b", size = 2 },
]

[[package]]
name = "rl-core"
version = "0.1.0"
source = { editable = "packages/core" }
"""

NEUTRAL = """\
version = 1
revision = 5

[manifest]
members = ["rl-core"]

[[package]]
name = "rich"
version = "15.0.0"
source = { registry = "pypi" }
sdist = { path = "rich-15.0.0.tar.gz", hash = "sha256:0a", size = 1 }
wheels = [
    { path = "rich-15.0.0-py3-none-any.whl", hash = "sha256:0b", size = 2 },
]

[[package]]
name = "rl-core"
version = "0.1.0"
source = { editable = "packages/core" }
"""


def test_neutral_lock_drops_addresses_and_options_and_keeps_the_rest() -> None:
    assert neutral_lock.neutral(LOCK) == NEUTRAL


def test_neutral_lock_is_idempotent() -> None:
    assert neutral_lock.neutral(NEUTRAL) == NEUTRAL


def test_neutral_lock_rewrites_the_file_and_check_accepts_it(tmp_path: Path) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text(LOCK, encoding="utf-8")
    assert neutral_lock.main([str(lock), "--check"]) == 1
    assert lock.read_text(encoding="utf-8") == LOCK
    assert neutral_lock.main([str(lock)]) == 0
    assert lock.read_text(encoding="utf-8") == NEUTRAL
    assert neutral_lock.main([str(lock), "--check"]) == 0


def test_neutral_lock_refuses_an_address_it_does_not_know(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text('source = { git = "https://forge.example/a/b?rev=1#2" }\n', encoding="utf-8")
    assert neutral_lock.main([str(lock)]) == 1
    assert "1 addresses, the first on line 1:" in capsys.readouterr().err


def write_module(root: Path, place: str, text: str) -> Path:
    path = root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def function(num_lines: int, parameters: str = "") -> str:
    return f"def f({parameters}):\n" + "    x = 1\n" * (num_lines - 1)


@pytest.mark.parametrize(
    ("place", "text", "expected"),
    [
        ("packages/a/src/a/m.py", "x = 1\n" * 500, None),
        ("packages/a/src/a/m.py", "x = 1\n" * 501, "m.py:1: module has 501 lines"),
        ("benchmarks/m.py", function(80), None),
        ("examples/rl/m.py", function(81), "m.py:1: f has 81 lines"),
        ("packages/a/src/a/m.py", function(2, "a, b, c, d, e, f, *, g"), None),
        ("packages/a/src/a/m.py", function(2, "a, b, c, d, /, e, f, g"), "f has 7 positional parameters"),
        ("packages/a/src/a/ops/m.py", function(2, "a, b, c, d, e, f, g, h"), None),
        ("packages/a/src/a/ops/m.py", function(2, "a, b, c, d, e, f, g, h, i"), "f has 9 positional parameters"),
        ("packages/a/src/a/m.py", "class C:\n    def f(self, a, b, c, d, e, g): ...\n", None),
        ("packages/a/src/a/m.py", "class C:\n    @staticmethod\n    def f(a, b, c, d, e, g, h): ...\n", "f has 7"),
        ("packages/a/src/a/m.py", "class C:\n    @staticmethod\n    def f(ctx, a, b, c, d, e, g): ...\n", None),
        ("packages/a/src/a/m.py", "def f(ctx, a, b, c, d, e, g): ...\n", "f has 7"),
        ("packages/a/tests/test_m.py", "x = 1\n" * 501, None),
    ],
)
def test_check_sizes_names_what_is_over_a_limit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str, text: str, expected: str | None
) -> None:
    write_module(tmp_path, place, text)
    status = check_sizes.main([str(tmp_path)])
    printed = capsys.readouterr().out
    if expected is None:
        assert status == 0
        assert "0 over a size limit" in printed
    else:
        assert status == 1
        assert expected in printed
        assert str(tmp_path) not in printed


def test_isolated_knows_every_package_and_what_it_needs_of_ours() -> None:
    assert "rl-core" in isolated.packages()
    assert isolated.siblings("rl-core") == []


def test_isolated_refuses_an_unknown_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        isolated.main(["closure", "rl-cor"])
    assert "no package rl-cor; there are " in capsys.readouterr().err
