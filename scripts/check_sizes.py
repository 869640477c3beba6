"""Hold the size limits of CONTRIBUTING.md: lines of a module, lines of a function, positional parameters.

Scans the packages' sources, ``benchmarks`` and ``examples``. Complexity is ruff's business (C901).
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MODULE_LINES = 500
FUNCTION_LINES = 80
POSITIONAL_PARAMETERS = 6
POSITIONAL_PARAMETERS_IN_OPS = 8

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(root: Path) -> list[Path]:
    """Return the Python files under ``root`` the limits apply to."""
    folders = [*root.glob("packages/*/src"), root / "benchmarks", root / "examples"]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def positional_parameters(function: Function, *, method: bool) -> int:
    """Return how many arguments a caller may pass by position, without a method's receiver (autograd's is ``ctx``)."""
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return len(names[1:] if method and names[:1] in (["self"], ["cls"], ["ctx"]) else names)


def findings(path: Path) -> Iterator[str]:
    """Yield one line of text for each limit ``path`` exceeds."""
    text = path.read_text(encoding="utf-8")
    num_lines = len(text.splitlines())
    if num_lines > MODULE_LINES:
        yield f"{path}:1: module has {num_lines} lines, the limit is {MODULE_LINES}"

    tree = ast.parse(text, filename=str(path))
    methods = {id(item) for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for item in node.body}
    most = POSITIONAL_PARAMETERS_IN_OPS if "ops" in path.parts else POSITIONAL_PARAMETERS
    for node in ast.walk(tree):
        if not isinstance(node, Function):
            continue
        num_lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if num_lines > FUNCTION_LINES:
            yield f"{path}:{node.lineno}: {node.name} has {num_lines} lines, the limit is {FUNCTION_LINES}"
        num_positional = positional_parameters(node, method=id(node) in methods)
        if num_positional > most:
            yield (
                f"{path}:{node.lineno}: {node.name} has {num_positional} positional parameters, the limit is {most};"
                " make those that are not tensors, records or components keyword-only"
            )


def main(argv: list[str] | None = None) -> int:
    """Print everything over a limit; return 1 if there is anything."""
    parser = argparse.ArgumentParser(description="Hold the size limits of modules, functions and signatures.")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="default: the workspace")
    root = parser.parse_args(argv).root.resolve()

    paths = sources(root)
    over = [line.replace(f"{root}/", "") for path in paths for line in findings(path)]
    print("\n".join([*over, f"{len(paths)} files, {len(over)} over a size limit"]))
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
