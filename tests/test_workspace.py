"""What every package of the workspace has to have, and what the root promises."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch

import isolated

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = isolated.packages()


def read(path: Path) -> dict:
    return tomllib.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PACKAGES)
def test_package_has_its_files(name: str) -> None:
    folder = PACKAGES[name]
    needed = ["README.md", "CHANGELOG.md", "LICENSE", "tests", f"src/{name.replace('-', '_')}/py.typed"]
    assert [file for file in needed if not (folder / file).exists()] == []


@pytest.mark.parametrize("name", PACKAGES)
def test_package_version_stands_in_status_and_changelog(name: str) -> None:
    version = read(PACKAGES[name] / "pyproject.toml")["project"]["version"]
    assert f"| {name} | {version} |" in (ROOT / "PACKAGE_STATUS.md").read_text(encoding="utf-8")
    assert f"## {version}" in (PACKAGES[name] / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PACKAGES)
def test_package_depends_on_no_leaf(name: str) -> None:
    assert set(isolated.siblings(name)) <= {"rl-core"} - {name}


@pytest.mark.parametrize("name", PACKAGES)
def test_package_test_tools_and_python_are_those_of_the_root(name: str) -> None:
    root, package = read(ROOT / "pyproject.toml"), read(PACKAGES[name] / "pyproject.toml")
    assert package["dependency-groups"]["test"] == root["dependency-groups"]["test"]
    assert package["project"]["requires-python"] == root["project"]["requires-python"]


@pytest.mark.parametrize("name", PACKAGES)
def test_package_is_a_source_of_the_workspace(name: str) -> None:
    root = read(ROOT / "pyproject.toml")
    assert root["tool"]["uv"]["sources"][name] == {"workspace": True}
    assert any(requirement.startswith(name) for requirement in root["project"]["dependencies"])


def test_git_ignores_no_source_file() -> None:
    command = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", "packages/*/src/*.py"]
    assert subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout == ""


@pytest.mark.parametrize("program", [".ci/run", "scripts/hooks/pre-commit"])
def test_program_is_executable(program: str) -> None:
    assert os.access(ROOT / program, os.X_OK)


def test_tests_run_with_the_torch_threads_they_were_given() -> None:
    assert torch.get_num_threads() == int(os.environ["OMP_NUM_THREADS"])
