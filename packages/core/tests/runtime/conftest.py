import os

import pytest

ray = pytest.importorskip("ray")


@pytest.fixture(scope="session", autouse=True)
def _cluster():
    """A cluster of its own for this test process, with more CPUs than the machine may have."""
    os.environ["RAY_worker_niceness"] = "0"
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, resources={"simulator": 2})
    yield
    ray.shutdown()
