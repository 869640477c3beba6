"""Test packages in temporary environments of their own, the way their users have them.

``closure``: the package's tests with its required dependencies only, at the locked versions.
``lowest``: the same tests with all extras, at the lowest versions it declares, in a copy of the tree.
``wheel``: the built wheel, from its source distribution, in a clean environment at the newest versions.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Beyond being importable, what an installed wheel has to do. Run in an empty folder.
WHEEL_COMMANDS = {
    "rl-core": ["rl info", "rl train ppo CartPole-v1 --stop-iters 2 --run-dir run"],
}


def packages(root: Path = ROOT) -> dict[str, Path]:
    """Return the folder of each workspace package by the package's name."""
    files = sorted(root.glob("packages/*/pyproject.toml"))
    return {tomllib.loads(file.read_text(encoding="utf-8"))["project"]["name"]: file.parent for file in files}


def siblings(package: str) -> list[str]:
    """Return which packages of the workspace ``package`` requires."""
    known = packages()
    project = tomllib.loads((known[package] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    required = {re.split(r"[^A-Za-z0-9_-]", requirement, maxsplit=1)[0] for requirement in project["dependencies"]}
    return sorted(required & known.keys())


def run(*command: str | Path, cwd: Path = ROOT, environment: Path | None = None) -> None:
    """Run a command, echoed first and timed afterwards.

    Args:
        command: The program and its arguments.
        cwd: Where to run it.
        environment: The virtual environment whose programs come first and into which uv installs.

    Raises:
        subprocess.CalledProcessError: If it fails.
    """
    variables = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    if environment is not None:
        variables["UV_PROJECT_ENVIRONMENT"] = str(environment)
        variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{variables['PATH']}"
    words = [str(word) for word in command]
    print(f"$ {shlex.join(words)}", flush=True)
    start = time.monotonic()
    program = shutil.which(words[0], path=variables["PATH"]) or words[0]
    subprocess.run([program, *words[1:]], cwd=cwd, env=variables, check=True)
    print(f"  took {time.monotonic() - start:.1f} s", flush=True)


def copy_tree(target: Path) -> Path:
    """Copy what git tracks or would track into ``target``; uncommitted work is part of it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def closure(package: str, scratch: Path, *, root: Path = ROOT, options: tuple[str, ...] = ()) -> None:
    """Run a package's own tests in an environment without anything else; ``options`` go to ``uv sync``."""
    environment = scratch / "venv"
    selection = ["--package", package, "--exact", "--no-default-groups", "--group", "test"]
    run("uv", "sync", "--quiet", *selection, *options, cwd=root, environment=environment)
    tests = packages(root)[package] / "tests"
    run("python", "-m", "pytest", tests.relative_to(root), cwd=root, environment=environment)


def lowest(package: str, scratch: Path) -> None:
    """Run a package's tests at its lowest declared versions; in a copy, because the resolution rewrites uv.lock."""
    tree = copy_tree(scratch / "tree")
    closure(package, scratch, root=tree, options=("--all-extras", "--resolution=lowest-direct"))


def wheel(package: str, scratch: Path) -> None:
    """Install a package's wheel (and those of ours it needs) into a clean environment and use it there."""
    environment, folder = scratch / "venv", scratch / "empty"
    for name in [package, *siblings(package)]:
        run("uv", "build", "--quiet", "--package", name, "--out-dir", scratch / "dist")
    wheels = sorted((scratch / "dist").glob("*.whl"))
    run("uv", "venv", "--quiet", "--python", f"{sys.version_info.major}.{sys.version_info.minor}", environment)
    run("uv", "pip", "install", "--quiet", "--python", environment, *wheels)
    folder.mkdir()
    module = package.replace("-", "_")
    for command in [f"python -c 'import {module}; print({module}.__file__)'", *WHEEL_COMMANDS.get(package, [])]:
        run(*shlex.split(command), cwd=folder, environment=environment)


MODES = {"closure": closure, "lowest": lowest, "wheel": wheel}


def main(argv: list[str] | None = None) -> int:
    """Test the named packages, or all, in one of the modes; return the exit status."""
    known = packages()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("package", nargs="*", help="default: all")
    args = parser.parse_args(argv)
    unknown = set(args.package) - set(known)
    if unknown:
        parser.error(f"no package {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for package in args.package or known:
        with tempfile.TemporaryDirectory(prefix=f"{package}-{args.mode}-") as scratch:
            try:
                MODES[args.mode](package, Path(scratch))
            except subprocess.CalledProcessError as error:
                print(f"{args.mode} test of {package} failed: {error}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
