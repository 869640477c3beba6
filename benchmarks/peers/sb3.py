"""stable-baselines3: PPO through its public interface, with its own sync vector env and Monitor wrapper."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.work import ENV, PENDULUM, Figures, Work, measure_rate, measure_startup

TOTAL_ENV_STEPS = 100_000
"""Length of the run in rl-zoo3; learning rate and clipping fall to 0 over it."""
EVALUATE_EVERY = 5_000
EVALUATION_EPISODES = 20


def build(work: Work) -> Any:
    """Return a PPO whose networks, batch sizes and loss are those of ``work``."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    return PPO(
        "MlpPolicy",  # separate 2x64 tanh networks by default
        make_vec_env(ENV, n_envs=work.num_envs, seed=work.seed),
        n_steps=work.num_steps,
        n_epochs=work.num_epochs,
        batch_size=work.minibatch_size,
        learning_rate=work.lr,
        seed=work.seed,
        device="cpu",
    )


def loop(work: Work) -> Figures:
    """Measure `learn`, ten iterations at a time."""
    model, chunk = build(work), 10 * work.batch_size

    def iterate() -> int:
        model.learn(chunk, reset_num_timesteps=False)
        return chunk

    figures = measure_rate(work, iterate)
    returns = [episode["r"] for episode in model.ep_info_buffer]
    return {**figures, "episode_return_mean": float(sum(returns) / len(returns))}


def sampling(work: Work) -> Figures:
    """Measure `collect_rollouts`."""
    return _sampling_of(build(work), work)


def _sampling_of(model: Any, work: Work) -> Figures:
    """Measure `collect_rollouts` of a model."""
    from stable_baselines3.common.callbacks import CallbackList

    model._setup_learn(0)
    callback = CallbackList([])
    callback.init_callback(model)

    def iterate() -> int:
        model.collect_rollouts(model.env, callback, model.rollout_buffer, work.num_steps)
        return work.batch_size

    return measure_rate(work, iterate)


def _rate_of(model: Any, work: Work, chunk: int) -> Figures:
    """Measure `learn`, so many env steps at a time."""

    def iterate() -> int:
        model.learn(chunk, reset_num_timesteps=False)
        return chunk

    return measure_rate(work, iterate)


def dqn(work: Work) -> Figures:
    """Measure DQN: 2x256 relu network, batch 64, a gradient step per 4 env steps."""
    from stable_baselines3 import DQN

    model = DQN(
        "MlpPolicy",
        ENV,
        learning_rate=5e-4,
        buffer_size=50_000,
        learning_starts=1000,
        batch_size=64,
        train_freq=4,
        gradient_steps=1,
        target_update_interval=500,
        policy_kwargs={"net_arch": [256, 256]},
        seed=work.seed,
        device="cpu",
    )
    return _rate_of(model, work, 1000)


def sac(work: Work) -> Figures:
    """Measure SAC: 2x256 relu networks, batch 256, a gradient step per env step."""
    from stable_baselines3 import SAC

    return _rate_of(SAC("MlpPolicy", PENDULUM, seed=work.seed, device="cpu"), work, 100)


def _pong(work: Work) -> Any:
    """PPO on Pong with the Nature network: 8 envs x 128 steps, 4 epochs, 4 minibatches."""
    import ale_py  # noqa: F401 # registers the env
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    envs = make_atari_env("PongNoFrameskip-v4", n_envs=work.num_envs, seed=work.seed)
    return PPO(
        "CnnPolicy",
        VecFrameStack(envs, n_stack=4),
        n_steps=work.num_steps,
        n_epochs=4,
        batch_size=work.minibatch_size,
        learning_rate=2.5e-4,
        seed=work.seed,
        device="cpu",
    )


def pong(work: Work) -> Figures:
    """Measure `learn` on Pong; an env step is 4 frames."""
    return _rate_of(_pong(work), work, work.batch_size)


def pong_sampling(work: Work) -> Figures:
    """Measure `collect_rollouts` on Pong."""
    return _sampling_of(_pong(work), work)


def startup(work: Work) -> Figures:
    """Measure the import and the first iteration."""

    def import_library() -> Any:
        import stable_baselines3

        return stable_baselines3

    return measure_startup(import_library, lambda _: build(work).learn(work.batch_size))


def learn(work: Work) -> Figures:
    """Measure the time from process start to ``work.stop_return``, with the settings of rl-zoo3's `ppo.yml`."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.callbacks import EvalCallback, StopTrainingOnRewardThreshold
    from stable_baselines3.common.env_util import make_vec_env

    model = PPO(
        "MlpPolicy",
        make_vec_env(ENV, n_envs=8, seed=work.seed),
        n_steps=32,
        batch_size=256,
        gae_lambda=0.8,
        gamma=0.98,
        n_epochs=20,
        ent_coef=0.0,
        learning_rate=lambda remaining: 1e-3 * remaining,
        clip_range=lambda remaining: 0.2 * remaining,
        seed=work.seed,
        device="cpu",
    )
    stop = StopTrainingOnRewardThreshold(work.stop_return)
    evaluate = EvalCallback(
        make_vec_env(ENV, n_envs=1, seed=work.seed + 1000),
        callback_on_new_best=stop,
        n_eval_episodes=EVALUATION_EPISODES,
        eval_freq=EVALUATE_EVERY // 8,
        deterministic=False,  # judged as ours is: on drawn actions
        verbose=0,
    )
    model.learn(TOTAL_ENV_STEPS, callback=evaluate)
    return {
        "seconds": time.time() - work.started_at,
        "env_steps": model.num_timesteps,
        "evaluation_return": float(evaluate.best_mean_reward),
        "reached": bool(evaluate.best_mean_reward >= work.stop_return),
    }


def multiagent(work: Work) -> Figures:
    """Measure `learn` on CartPoles side by side, with one policy for all agents, through PettingZoo and SuperSuit."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.utils import set_random_seed
    from stable_baselines3.common.vec_env import VecMonitor
    from supersuit import black_death_v3, concat_vec_envs_v1, pettingzoo_env_to_vec_env_v1

    agents = pettingzoo_env_to_vec_env_v1(black_death_v3(cart_poles(work.num_agents)))
    envs = concat_vec_envs_v1(agents, work.num_envs, num_cpus=1, base_class="stable_baselines3")
    set_random_seed(work.seed)  # its env of SuperSuit cannot be seeded
    model = PPO(
        "MlpPolicy",
        VecMonitor(envs),
        n_steps=work.num_steps,
        n_epochs=work.num_epochs,
        batch_size=work.minibatch_size,
        learning_rate=work.lr,
        device="cpu",
    )

    def iterate() -> int:
        model.learn(work.batch_size * work.num_agents, reset_num_timesteps=False)
        return work.batch_size

    return measure_rate(work, iterate)


def cart_poles(num_agents: int) -> Any:
    """Make a parallel env of PettingZoo with a CartPole for each agent; agents leave as theirs end."""
    import gymnasium
    from pettingzoo import ParallelEnv

    class CartPoles(ParallelEnv):  # type: ignore[misc,type-arg] # the peers are not there when types are checked
        metadata: dict[str, Any] = {"name": "cart_poles"}  # noqa: RUF012 # as PettingZoo asks for it
        render_mode = None

        def __init__(self) -> None:
            self.possible_agents = [f"p{agent}" for agent in range(num_agents)]
            self.envs = {agent: gymnasium.make(ENV) for agent in self.possible_agents}

        def observation_space(self, agent: str) -> Any:
            return self.envs[agent].observation_space

        def action_space(self, agent: str) -> Any:
            return self.envs[agent].action_space

        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            self.agents = list(self.possible_agents)
            found = {
                agent: env.reset(seed=None if seed is None else seed + place)
                for place, (agent, env) in enumerate(self.envs.items())
            }
            return {agent: obs for agent, (obs, _) in found.items()}, {key: {} for key in found}

        def step(self, actions: Any) -> Any:
            found = {agent: self.envs[agent].step(actions[agent]) for agent in self.agents}
            self.agents = [agent for agent, (_, _, ended, cut, _) in found.items() if not (ended or cut)]
            return tuple({agent: part[place] for agent, part in found.items()} for place in range(5))

    return CartPoles()
