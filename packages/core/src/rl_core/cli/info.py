"""`rl info`: versions, devices, threads, extras, algorithms."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
from typing import Any

from rl_core.algorithm import registry
from rl_core.cli.versions import versions

EXTRAS = {
    "matplotlib": ("logging", "learning_curve.png, rl plot"),
    "imageio": ("logging", "rl record"),
    "tensorboard": ("logging", "looking at events"),
    "onnxruntime": ("onnx", "policies as ONNX files"),
}
"""Module -> the extra that installs it, and what it is for."""


def run(arguments: argparse.Namespace) -> int:
    """Show."""
    import torch

    cuda = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    facts: dict[str, Any] = {
        "versions": versions(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "devices": ["cpu", *(f"cuda:{index} ({name})" for index, name in enumerate(cuda))],
        "extras": {name: importlib.util.find_spec(name) is not None for name in EXTRAS},
        "algorithms": registry.algorithms(),
    }
    if arguments.json:
        print(json.dumps(facts))
        return 0
    for name, version in facts["versions"].items():
        print(f"{name:<12} {version}")
    threads = "from OMP_NUM_THREADS" if facts["omp_num_threads"] else "before a run; it takes 1 for small nets"
    print(f"\nplatform     {facts['platform']}")
    print(f"cpus         {facts['cpus']}")
    print(f"threads      {facts['torch_threads']} ({threads})")
    print(f"devices      {', '.join(facts['devices'])}\n")
    for name, installed in facts["extras"].items():
        extra, purpose = EXTRAS[name]
        print(f"{name:<12} {'installed' if installed else f'missing: pip install rl-core[{extra}]'} ({purpose})")
    print()
    for name, path in facts["algorithms"].items():
        print(f"{name:<12} {path}")
    return 0
