"""This library, through its public interface and, to learn, its command."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.work import ENV, PENDULUM, PONG, Figures, Work, measure_rate, measure_startup

TUNED_SETTINGS = (
    "training.train_batch_size_per_learner=1024",
    "training.minibatch_size=128",
    "training.gamma=0.98",
    "training.lambda_=0.9",
    "training.lr=[[0, 1e-3], [60000, 1e-4]]",
)
"""`--set` arguments tuned for CartPole, as rl-zoo3's are that SB3 learns with."""
NOT_REACHED = 3
"""Exit status of the command when a limit came before the goal."""


def config(work: Work) -> Any:
    """Return a PPO config whose networks, batch sizes and loss are those of ``work``."""
    from rl_core import PPOConfig

    return (
        PPOConfig()
        .environment(ENV)
        .env_runners(num_envs_per_env_runner=work.num_envs, gym_env_vectorize_mode=work.vector)
        .training(
            lr=work.lr,
            train_batch_size_per_learner=work.batch_size,
            minibatch_size=min(work.minibatch_size, work.batch_size),
            num_epochs=work.num_epochs,
        )
        .rl_module(model_config={"fcnet_hiddens": (64, 64), "fcnet_activation": "tanh", "vf_share_layers": False})
        .debugging(seed=work.seed)
    )


def loop(work: Work) -> Figures:
    """Measure `train`."""
    algorithm = config(work).build()
    returns = []

    def iterate() -> int:
        before = algorithm.env_steps
        returns.append(algorithm.train()["env_runners/episode_return_mean"])
        return int(algorithm.env_steps - before)

    figures = measure_rate(work, iterate)
    algorithm.stop()
    return {**figures, "episode_return_mean": float(returns[-1])}


def sampling(work: Work) -> Figures:
    """Measure the env runner's `sample`."""
    algorithm = config(work).build()
    figures = measure_rate(work, lambda: int(algorithm.env_runner.sample().env_steps))
    algorithm.stop()
    return figures


def rate_of(config: Any, work: Work) -> Figures:
    """Measure `train` of a config."""
    algorithm = config.debugging(seed=work.seed).build()

    def iterate() -> int:
        before = algorithm.env_steps
        algorithm.train()
        return int(algorithm.env_steps - before)

    figures = measure_rate(work, iterate)
    algorithm.stop()
    return figures


def saving(work: Work) -> Figures:
    """Measure a checkpoint: written, synced and hashed; and what one in the background adds to a default iteration."""
    import statistics
    from pathlib import Path

    from rl_core import PPOConfig

    algorithm = config(work).build()
    algorithm.train()
    took: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        while time.perf_counter() - started < work.seconds or len(took) < 20:
            begun = time.perf_counter()
            path = algorithm.save(Path(folder) / str(len(took)))
            took.append(1e3 * (time.perf_counter() - begun))
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    tensors = 3 * sum(
        tensor.numel() * tensor.element_size() for tensor in algorithm.learner.module.state_dict().values()
    )
    algorithm.stop()

    algorithm = PPOConfig().environment(ENV).debugging(seed=work.seed).build()
    algorithm.train()
    alone: list[float] = []
    beside: list[float] = []
    held: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        while time.perf_counter() - started < 2 * work.seconds or len(alone) < 20:
            begun = time.perf_counter()
            algorithm.train()
            alone.append(1e3 * (time.perf_counter() - begun))
            begun = time.perf_counter()
            algorithm.save(Path(folder) / str(len(alone)), wait=False)
            held.append(1e3 * (time.perf_counter() - begun))
            algorithm.train()
            beside.append(1e3 * (time.perf_counter() - begun))
            algorithm.wait_for_checkpoints()
    algorithm.stop()
    return {
        "ms": statistics.median(took),
        "size_share": size / tensors,
        "thread_ms": statistics.median(held),
        "iteration_ms": statistics.median(alone),
        "iteration_share": statistics.median(beside) / statistics.median(alone) - 1.0,
    }


def dqn(work: Work) -> Figures:
    """Measure `train` of plain DQN: 2x256 relu network, batch 64, a gradient step per 4 env steps."""
    from rl_core import DQNConfig

    config = DQNConfig().environment(ENV).env_runners(num_envs_per_env_runner=4)
    config.training(train_batch_size_per_learner=64, double_q=False, dueling=False)
    return rate_of(config, work)


def sac(work: Work) -> Figures:
    """Measure `train` of SAC: 2x256 relu networks, batch 256, a gradient step per env step."""
    from rl_core import SACConfig

    return rate_of(SACConfig().environment(PENDULUM).reporting(min_sample_timesteps_per_iteration=100), work)


def _pong(work: Work) -> Any:
    """PPO on Pong with the Nature network: 8 envs x 128 steps, 4 epochs, 4 minibatches."""
    import ale_py  # noqa: F401 # registers the env

    from rl_core import PPOConfig

    return (
        PPOConfig()
        .environment(PONG)
        .env_runners(num_envs_per_env_runner=work.num_envs, gym_env_vectorize_mode="vector_entry_point")
        .training(train_batch_size_per_learner=work.batch_size, minibatch_size=work.minibatch_size, num_epochs=4)
        .rl_module(model_config={"conv_dtype": "bfloat16" if work.half else "float32"})
        .learners(num_threads=1)
        .debugging(seed=work.seed)
    )


def pong(work: Work) -> Figures:
    """Measure `train` on Pong; an env step is 4 frames."""
    return rate_of(_pong(work), work)


def pong_sampling(work: Work) -> Figures:
    """Measure the env runner's `sample` on Pong."""
    algorithm = _pong(work).build()
    figures = measure_rate(work, lambda: int(algorithm.env_runner.sample().env_steps))
    algorithm.stop()
    return figures


def recurrent(work: Work) -> Figures:
    """Measure PPO's loop with an LSTM, or with a feed-forward network of about as many parameters."""
    memory = {"use_lstm": True, "lstm_cell_size": 64, "fcnet_hiddens": (64,), "max_seq_len": 32}
    config_ = config(work).rl_module(model_config=memory if work.memory else {"fcnet_hiddens": (180, 180)})
    algorithm = config_.build()
    parameters = sum(parameter.numel() for parameter in algorithm.policy.module.parameters())
    algorithm.stop()
    return {**rate_of(config_, work), "num_parameters": parameters}


def connectors(work: Work) -> Figures:
    """Measure what mean/std, frame stack and previous actions cost of sampling, and what frame stacking ships.

    With and without take turns, rollout by rollout, and the median of the pairs counts: processor time, so that other
    processes hit both alike.
    `bytes_share` compares the observations of a rollout with `FrameStack(4)` with the stacks they stand for.
    """
    import statistics

    from rl_connectors import FrameStack, MeanStdFilter, PrevActionsPrevRewards

    pieces = (MeanStdFilter(), FrameStack(4), PrevActionsPrevRewards())
    without, with_pieces = (
        config(work).env_runners(env_to_module_connector=chosen).build().env_runner for chosen in ((), pieces)
    )
    for _ in range(work.warmup):
        without.sample()
        with_pieces.sample()
    pairs: list[tuple[float, ...]] = []
    started = time.perf_counter()
    while time.perf_counter() - started < work.seconds:
        pairs.append(tuple(_seconds_per_step(runner) for runner in (without, with_pieces)))
    bare, full = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "share": statistics.median(1 - one / other for one, other in pairs),
        "env_steps_per_s": 1 / full,
        "without_per_s": 1 / bare,
        "bytes_share": _shipped_share(work, FrameStack(4)),
    }


def _seconds_per_step(runner: Any) -> float:
    """Sample one rollout and return the processor time of an env step."""
    clock = time.process_time()
    env_steps = runner.sample().env_steps
    return (time.process_time() - clock) / float(env_steps)


def _shipped_share(work: Work, piece: Any) -> float:
    """Compare the bytes of observations in a rollout with those that the learner makes of them."""
    from rl_core.algorithm.components import make_learner_chain
    from rl_core.tree import tree_leaves

    algorithm_config = config(work).env_runners(env_to_module_connector=(piece,))
    runner = algorithm_config.build().env_runner
    rollout, policy = runner.sample(), runner.policy
    rebuilt = make_learner_chain(algorithm_config, policy.obs_chain, policy.action_chain, seed=0)(rollout)[0]

    def size(tree: Any) -> int:
        return sum(leaf.nbytes for leaf in tree_leaves(tree) if leaf is not None)

    shipped = size((rollout.obs, rollout.final_obs, rollout.history.slots, rollout.history.first))
    return float(shipped / size((rebuilt.obs, rebuilt.final_obs)))


def multiagent(work: Work) -> Figures:
    """Measure PPO's loop on cloned CartPoles with a policy for each agent, or one for all."""
    from rl_multiagent import MultiAgent, clone_agents

    policies = ("default",) if work.shared_policy else tuple(str(agent) for agent in range(work.num_agents))
    config_ = config(work).environment(clone_agents(ENV, work.num_agents)).use(MultiAgent(policies=policies))
    algorithm = config_.build()
    returns = []

    def iterate() -> int:
        before = algorithm.env_steps
        returns.append(algorithm.train()["env_runners/episode_return_mean"])
        return int(algorithm.env_steps - before)

    figures = measure_rate(work, iterate)
    algorithm.stop()
    return {**figures, "episode_return_mean": float(returns[-1])}


def agents(work: Work) -> Figures:
    """Measure sampling with one policy for all agents, and stepping the same env with random actions alone.

    They take turns, rollout by rollout, in processor time, and the median of the pairs counts.
    """
    import statistics

    from rl_multiagent import MultiAgent, clone_agents

    config_ = config(work).environment(clone_agents(ENV, work.num_agents)).use(MultiAgent())
    runner = config_.build().env_runner
    step_alone = _random_play(work, config_)
    for _ in range(work.warmup):
        runner.sample()
        step_alone()
    pairs: list[tuple[float, float]] = []
    started = time.perf_counter()
    while time.perf_counter() - started < work.seconds or len(pairs) < 3:
        clock = time.process_time()
        agent_steps = runner.sample().agent_steps
        sampled = time.process_time()
        alone = step_alone()
        pairs.append(((sampled - clock) / agent_steps, (time.process_time() - sampled) / alone))
    sampling, alone_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "share": statistics.median(alone / own for own, alone in pairs),
        "agent_steps_per_s": 1 / sampling,
        "alone_per_s": 1 / alone_s,
    }


def _random_play(work: Work, config_: Any) -> Any:
    """Return what steps the envs with random actions for as many steps as a rollout has, and counts the actions."""
    import numpy as np

    from rl_multiagent.env.make import make_agents_env, make_multi_agent_env

    rng = np.random.default_rng(work.seed)
    if work.vector != "sync":
        env = make_agents_env(config_, "sampling")
        newest = [env.reset(work.seed)]

        def play_arrays() -> int:
            num_actions = 0
            for _ in range(work.num_steps):
                num_actions += int(newest[0].acts.sum())
                newest[0] = env.step((rng.integers(2, size=(work.num_envs, work.num_agents)),))
            return num_actions

        return play_arrays
    envs = [make_multi_agent_env(config_.environment.env, {}) for _ in range(work.num_envs)]
    acting = [list(env.reset(seed=place)[0]) for place, env in enumerate(envs)]

    def play() -> int:
        num_actions = 0
        for _ in range(work.num_steps):
            for place, env in enumerate(envs):
                actions = dict(zip(acting[place], rng.integers(2, size=len(acting[place])).tolist(), strict=True))
                num_actions += len(actions)
                obs, _, ended, cut, _ = env.step(actions)
                gone = {agent for flags in (ended, cut) for agent, flag in flags.items() if flag}
                left = () if "__all__" in gone else [agent for agent in obs if agent not in gone]
                acting[place] = list(left or env.reset()[0])
        return num_actions

    return play


def replay(work: Work) -> Figures:
    """Measure drawing 256 of a million transitions in proportion to their priorities."""
    import numpy as np
    import torch

    from rl_core import Rollout
    from rl_core.replay.buffer import ReplayBuffer
    from rl_core.replay.priorities import PrioritySettings

    torch.set_num_threads(1)
    num_steps, num_slots, size = 1000, 8, 1_000_000
    buffer = ReplayBuffer(size, num_slots=num_slots, seed=work.seed, priorities=PrioritySettings())
    never = torch.zeros(num_steps, num_slots, dtype=torch.bool)
    for _ in range(size // (num_steps * num_slots)):
        buffer.add(
            Rollout(
                obs=torch.randn(num_steps + 1, num_slots, 17),
                action=torch.randn(num_steps, num_slots, 6),
                reward=torch.randn(num_steps, num_slots),
                terminated=never,
                truncated=never,
                valid=None,
                final_index=torch.zeros(0, dtype=torch.int64),
                final_obs=None,
                behavior_dist_inputs=torch.zeros(num_steps, num_slots, 1),
                policy_version=0,
                env_steps=num_steps * num_slots,
            )
        )
    buffer.update_priorities(torch.arange(len(buffer)), torch.rand(len(buffer)))
    return {"microseconds": _median_us(lambda: buffer.sample(256, n_step=1, gamma=0.99), np)}


def act(work: Work) -> Figures:
    """Measure `Policy.act` with one observation and 2x64 networks."""
    import numpy as np

    algorithm = config(work).build()
    policy, obs = algorithm.policy, np.zeros(4, np.float32)
    figures = {"microseconds": _median_us(lambda: policy.act(obs), np)}
    algorithm.stop()
    return figures


def _median_us(call: Any, np: Any) -> float:
    """Median time of a call in microseconds, after a warm-up."""
    for _ in range(200):
        call()
    times = []
    for _ in range(2000):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return float(np.median(times) * 1e6)


def startup(work: Work) -> Figures:
    """Measure the import and the first iteration."""

    def import_library() -> Any:
        import rl_core

        return rl_core.PPOConfig  # what a user's `from rl_core import PPOConfig` loads

    def first_iteration(_: Any) -> Any:
        algorithm = config(work).build()
        algorithm.train()
        return algorithm

    return measure_startup(import_library, first_iteration)


def learn(work: Work) -> Figures:
    """Measure the command ``rl train ppo CartPole-v1 --stop-reward 475`` from its start to its end."""
    settings = TUNED_SETTINGS if work.tuned_settings else ()
    command = [sys.executable, "-m", "rl_core.cli", "train", "ppo", ENV, "--json", "--seed", str(work.seed)]
    command += ["--stop-reward", str(work.stop_return), "--stop-timesteps", str(work.stop_env_steps)]
    command += [word for setting in settings for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
        seconds = time.perf_counter() - started
    if done.returncode not in (0, NOT_REACHED):
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}")
    result = json.loads(done.stdout.splitlines()[-1])
    return {
        "seconds": seconds,
        "env_steps": result["env_steps"],
        "evaluation_return": result["return"],
        "reached": result["outcome"] == "reached",
    }
