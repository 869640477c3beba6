import pytest

from rl_core import PPOConfig
from rl_core.testing.trace_budget import trace_call

CONFIG = (
    PPOConfig()
    .environment("CartPole-v1")
    .env_runners(num_envs_per_env_runner=4)
    .training(train_batch_size_per_learner=256, minibatch_size=64, num_epochs=2)
)


def inner(call):
    return call()


def test_one_steady_ppo_iteration_stays_within_the_budget():
    algorithm = CONFIG.build()
    for _ in range(2):
        algorithm.train()
    trace = trace_call(algorithm.train)
    algorithm.stop()
    print(trace.report())
    assert len(trace.files) <= 20, trace.report()
    assert len(trace.functions) <= 60, trace.report()
    assert len(trace.jumps) <= 45, trace.report()
    assert trace.depth <= 7, trace.report()


def test_trace_counts_functions_of_the_folder_only(tmp_path):
    (tmp_path / "traced_first.py").write_text(
        "import traced_second\n\n\ndef enter():\n    return [traced_second.work(n) for n in (2, 1)]\n"
    )
    (tmp_path / "traced_second.py").write_text(
        "def work(n):\n    return sorted([n, 0], key=lambda x: x) and (n and work(n - 1))\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        import traced_first

        trace = trace_call(lambda: inner(traced_first.enter), folder=str(tmp_path))
    assert trace.files == {"traced_first.py", "traced_second.py"}
    assert trace.functions == {("traced_first.py", "enter"), ("traced_second.py", "work")}
    assert trace.jumps == {("traced_first.py", "traced_second.py", "work")}
    assert trace.depth == 4  # enter, work(2), work(1), work(0)


def test_trace_ends_with_the_call_also_when_it_raises():
    import sys

    with pytest.raises(ZeroDivisionError):
        trace_call(lambda: 1 / 0)
    assert sys.getprofile() is None
