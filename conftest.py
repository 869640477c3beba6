"""What every test run shares: one torch thread per worker, and Hypothesis without chance or deadline."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch: pytest-xdist fills the cores

import hypothesis

hypothesis.settings.register_profile("repository", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repository")
