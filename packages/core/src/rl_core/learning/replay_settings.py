"""Settings that all off-policy algorithms share: the replay buffer and the rhythm of gradient steps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from rl_core.config.check import Range, Settings
from rl_core.config.settings import Fraction, Positive, Schedule, TrainingSettings, check_schedule
from rl_core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayBufferSettings(Settings):
    """The replay buffer of one module."""

    capacity: Positive = 50_000
    """Transitions it holds; older ones are overwritten. Source: RLlib's DQN."""
    type: Literal["uniform", "prioritized"] = "uniform"
    """Draw every transition alike, or in proportion to its last temporal-difference error [Schaul et al. 2016]."""
    alpha: Fraction = 0.6
    """Prioritised: exponent of the priorities, 0 is uniform. Source: Schaul et al. 2016, table 3."""
    beta: Schedule = 0.4
    """Prioritised: exponent of the importance weights, 1 corrects the bias fully. Source: as above."""
    save_in_checkpoints: bool = True
    """Save the stored transitions with the learner. Without them a restored run first fills the buffer again."""
    folder: str | None = None
    """Folder of memory-mapped files for a buffer larger than memory; None keeps it in memory."""

    def check(self) -> None:
        """Check the schedule."""
        check_schedule("beta", self.beta, high=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings(TrainingSettings):
    """What the learner reads of an off-policy algorithm's settings; the algorithm adds what its losses need."""

    train_batch_size_per_learner: Positive = 256
    """Transitions drawn per gradient step."""
    replay_buffer_config: ReplayBufferSettings = field(default_factory=ReplayBufferSettings)
    """The replay buffer."""
    num_steps_sampled_before_learning_starts: Annotated[int, Range(ge=0)] = 1000
    """Env steps in the buffer before the first gradient step."""
    env_steps_per_gradient_step: Annotated[float, Range(gt=0)] = 1.0
    """Env steps sampled for each gradient step; below 1 there are several gradient steps per env step."""
    n_step: Positive | tuple[Positive, Positive] = 1
    """Steps until a target bootstraps; `(low, high)` draws a number for each transition. Source: Sutton 1988."""
    tau: Annotated[float, Range(gt=0, le=1)] = 0.005
    """Share of the newest weights that goes into the target network at each of its updates."""
    target_network_update_freq: Annotated[int, Range(ge=0)] = 0
    """Env steps between updates of the target network; 0 updates it after every gradient step."""
    burn_in_len: Annotated[int, Range(ge=0)] = 0
    """Recurrent modules: steps before each segment that only bring the state up to date.
    Source: Kapturowski et al. 2019, section 3."""
    overlap_sampling: bool = False
    """Sample the next rollout in a thread while gradient steps on what is stored already run; the policy that samples
    is one rollout older. Pays where the env is slow and a core is free."""
    grad_clip: Annotated[float, Range(gt=0)] | None = None
    """Bound of the gradient, None for none."""
    adam_epsilon: Annotated[float, Range(gt=0)] = 1e-8
    """Added to Adam's denominator. Source: Kingma and Ba 2015."""

    def check(self) -> None:
        """Check schedules and that learning can start.

        Raises:
            ConfigError: the buffer never holds what learning waits for, or a range of steps is empty.
        """
        check_schedule("lr", self.lr)
        capacity, start = self.replay_buffer_config.capacity, self.num_steps_sampled_before_learning_starts
        if start > capacity:
            raise ConfigError(
                f"num_steps_sampled_before_learning_starts: got {start}, expected at most "
                f"replay_buffer_config.capacity, which is {capacity}: learning would never start."
            )
        if isinstance(self.n_step, tuple) and self.n_step[0] > self.n_step[1]:
            raise ConfigError(f"n_step: got {self.n_step}, expected (low, high) with low <= high.")
