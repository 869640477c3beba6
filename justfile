# Recipes of the repository. `just` comes with the development environment: `uv run just <recipe>`.

# List the recipes
default:
    @just --list

# Format the code and mend what ruff can mend
fmt:
    uv run ruff format && uv run ruff check --fix

# Formatting, ruff, import contracts, size limits
lint:
    uv run ruff format --check && uv run ruff check && uv run lint-imports --no-logo && uv run python scripts/check_sizes.py

# Static types, strict
types:
    uv run mypy

# Quick tests of all packages; arguments go to pytest
test *args:
    uv run pytest {{ args }}

# One package's own tests with nothing but its declared dependencies
test-pkg package:
    uv run python scripts/isolated.py closure {{ package }}

# Every package's tests at the lowest versions it declares
test-lowest:
    uv run python scripts/isolated.py lowest

# Build the wheels, install each into a clean environment, use it there
test-wheel:
    uv run python scripts/isolated.py wheel

# How many files, functions and jumps one training iteration takes
trace:
    uv run pytest -n0 -s -k trace_budget

# Throughput next to the peers; arguments go to the benchmark
bench *args:
    uv run --group peers python -m benchmarks {{ args }}

# Long tests: does each algorithm learn?
learn *args:
    uv run pytest -m learning {{ args }}

# Install the git hook that keeps uv.lock free of addresses
hooks:
    git config core.hooksPath scripts/hooks

# Resolve again and write the index-neutral uv.lock (twice: uv orders its markers for good on the second pass)
lock:
    for pass in 1 2; do uv lock && python3 scripts/neutral_lock.py || exit 1; done
