import shutil

import numpy as np
import pytest

from rl_core.errors import ConfigError
from rl_core.replay.memory import GIB, allocate, available_memory, require_room


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path):
    """Files as the kernel shows them: 8 GiB are available, and the process is in the group `a/b`."""
    write(tmp_path / "proc/meminfo", f"MemTotal: 99 kB\nMemAvailable:   {8 * 2**20} kB\n")
    write(tmp_path / "proc/self/cgroup", "0::/a/b\n")
    return {"proc": tmp_path / "proc", "cgroup": tmp_path / "cgroup"}


def test_without_limits_all_the_machine_has_is_available(machine):
    assert available_memory(**machine) == 8 * GIB
    write(machine["cgroup"] / "a/b/memory.max", "max\n")
    write(machine["cgroup"] / "a/b/memory.current", "5\n")
    assert available_memory(**machine) == 8 * GIB


@pytest.mark.parametrize("group", ["a/b", "a", "."])
def test_the_lowest_limit_of_the_groups_around_holds_and_file_caches_do_not_count(machine, group):
    folder = machine["cgroup"] / group
    write(folder / "memory.max", f"{4 * GIB}\n")
    write(folder / "memory.current", f"{3 * GIB}\n")
    assert available_memory(**machine) == GIB
    write(folder / "memory.stat", f"anon 7\ninactive_file {2 * GIB}\n")
    assert available_memory(**machine) == 3 * GIB


def test_limits_of_version_1_groups_hold(machine):
    write(machine["cgroup"] / "memory/memory.limit_in_bytes", f"{2 * GIB}\n")
    write(machine["cgroup"] / "memory/memory.usage_in_bytes", f"{3 * GIB}\n")
    assert available_memory(**machine) == 0


def test_this_machine_has_some_memory_with_or_without_kernel_files(tmp_path):
    assert available_memory() > 2**20
    assert available_memory(proc=tmp_path, cgroup=tmp_path) > 2**20


def test_what_does_not_fit_is_refused_with_figures_and_advice(tmp_path):
    too_much = 10 * available_memory()
    figures = rf"replay: 1,000 things of .* bytes each take {too_much:,} bytes \(.* GiB\), but only .*folder.*would fit"
    with pytest.raises(ConfigError, match=figures):
        require_room(too_much, count=1000, what="things", folder=None)
    with pytest.raises(ConfigError, match=r"free on the disk of .*larger disk"):
        require_room(2 * shutil.disk_usage(tmp_path).total, count=1000, what="things", folder=tmp_path)
    require_room(1000, count=1000, what="things", folder=None)


def test_columns_are_zeros_in_memory_and_in_files(tmp_path):
    for folder in (None, tmp_path):
        for shape in ((3, 2), (3, 0)):
            column = allocate("name", shape, np.dtype(np.int16), folder)
            assert column.shape == shape
            assert column.dtype == np.int16
            assert not column.any()
            column[...] = 1
    assert (tmp_path / "name.bin").stat().st_size == 12
