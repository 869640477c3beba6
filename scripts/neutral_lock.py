"""Strip the package index from uv.lock, so that the committed lock serves people behind any mirror.

Run it as ``python scripts/neutral_lock.py`` after uv wrote the lock; ``--check`` only says whether it is needed.
uv takes the versions and hashes of the stripped file as they are and writes the user's own index into their copy.
"""

from __future__ import annotations  # the git hook runs this with whatever python3 there is

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_OPTIONS_TABLE = re.compile(r"^\[options\]\n(?:[^\[\n].*\n)*\n?", re.MULTILINE)
_OPTIONS_SUBTABLE = re.compile(r"^\[options\.[^\]]+\]\n(?:[^\[\n].*\n)*\n?", re.MULTILINE)
_REGISTRY = re.compile(r'\bregistry = "[^"]*"')
_FILE_ADDRESS = re.compile(r'\burl = "[^"]*/([^"/?#]+)(?:[?#][^"]*)?"')


def neutral(lock: str) -> str:
    """Return the text of a uv.lock without index, download addresses and ``[options]``; idempotent."""
    for pattern, replacement in (
        (_OPTIONS_SUBTABLE, ""),
        (_OPTIONS_TABLE, ""),
        (_REGISTRY, 'registry = "pypi"'),
        (_FILE_ADDRESS, r'path = "\1"'),
    ):
        lock = pattern.sub(replacement, lock)
    return lock


def addresses(lock: str) -> list[str]:
    """Return the lines of a uv.lock that still name an address, each with its number."""
    return [f"{number}: {line.strip()}" for number, line in enumerate(lock.splitlines(), 1) if "://" in line]


def main(argv: list[str] | None = None) -> int:
    """Strip the lock, or with ``--check`` refuse one that names an address; return the exit status."""
    parser = argparse.ArgumentParser(description="Strip the package index from uv.lock.")
    parser.add_argument("lock", nargs="?", type=Path, default=ROOT / "uv.lock", help="default: the workspace's")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the lock names an address")
    args = parser.parse_args(argv)

    text = args.lock.read_text(encoding="utf-8")
    if not args.check:
        text = neutral(text)
        args.lock.write_text(text, encoding="utf-8", newline="\n")
    left = addresses(text)
    if left:
        hint = "Run `python scripts/neutral_lock.py`." if args.check else "This script does not know that form."
        print(f"{args.lock.name} names {len(left)} addresses, the first on line {left[0][:120]}", file=sys.stderr)
        print(hint, file=sys.stderr)
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
