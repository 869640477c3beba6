import importlib.util
import os

import pytest

HAS_RAY = importlib.util.find_spec("ray") is not None
collect_ignore_glob = [] if HAS_RAY else ["test_*.py"]  # the extra `ray` is not installed


@pytest.fixture(scope="session")
def cluster():
    """A cluster of its own for this test process, with more CPUs than the machine may have."""
    import ray

    os.environ["RAY_worker_niceness"] = "0"
    if ray.is_initialized():  # by an example in this test process
        ray.shutdown()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, resources={"simulator": 2})
    yield
    ray.shutdown()
