"""What every test run shares: one torch thread per worker, Hypothesis without chance, the same random numbers."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch: pytest-xdist fills the cores
os.environ.setdefault("RAY_worker_niceness", "0")  # at Ray's 15 its workers starve beside another test process

import hypothesis
import pytest

hypothesis.settings.register_profile("repository", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repository")


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Start each test from the same global generators, whatever ran before it in this worker."""
    import random

    import numpy as np
    import torch

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
