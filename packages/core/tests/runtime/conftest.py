import importlib.util
import os

import pytest

HAS_RAY = importlib.util.find_spec("ray") is not None
collect_ignore_glob = [] if HAS_RAY else ["test_*.py"]  # the extra `ray` is not installed


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this test process with more CPUs than the machine may have, started where there is none yet."""
    import ray

    os.environ["RAY_worker_niceness"] = "0"
    own = {"CPU": 4.0, "simulator": 2.0}
    if ray.is_initialized() and not own.items() <= ray.cluster_resources().items():  # other tests' or an example's
        ray.shutdown()
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, resources={"simulator": 2})
