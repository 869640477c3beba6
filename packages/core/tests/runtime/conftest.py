import os

import pytest

ray = pytest.importorskip("ray")


@pytest.fixture(scope="session", autouse=True)
def _cluster():
    """A cluster of its own for this test process, with more CPUs than the machine may have."""
    os.environ["RAY_worker_niceness"] = "0"
    if ray.is_initialized():  # by an example in this test process
        ray.shutdown()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, resources={"simulator": 2})
    yield
    ray.shutdown()
