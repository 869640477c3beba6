"""Weights & Biases, which is imported when a run with this sink has its first result."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rl_core.algorithm.sinks import Sink
from rl_core.errors import ConfigError
from rl_core.metrics import Image, Media, Series
from rl_core.runs.sinks import plain_settings, scalars

if TYPE_CHECKING:
    from rl_core.algorithm.algorithm import Algorithm


@dataclass(frozen=True, slots=True)
class WandbSink(Sink):
    """A run on Weights & Biases, drawn over env steps. The key is no setting: `wandb login`, or WANDB_API_KEY."""

    project: str | None = None
    """Project there; None is what WANDB_PROJECT says, or theirs for runs without one."""
    name: str | None = None
    """Name of the run; None makes one up."""
    mode: Literal["online", "offline"] | None = None
    """`offline` writes to disk, for `wandb sync`; None is what WANDB_MODE says, or online."""
    folder: str | None = None
    """Where files are put; None is the working directory."""
    run_id: str | None = None
    """Id of a run there to go on with, or of the new one, so that it can be gone on with."""

    def open(self, algorithm: Algorithm) -> WandbWriter:
        """Begin the run.

        Raises:
            ConfigError: the extra is not installed.
        """
        try:
            import wandb
        except ImportError as error:
            raise ConfigError(
                f"reporting.sinks: WandbSink needs the extra ({error}): pip install 'rl-core[wandb]'"
            ) from error
        run = wandb.init(
            project=self.project,
            name=self.name,
            mode=self.mode,
            dir=self.folder,
            id=self.run_id,
            resume=None if self.run_id is None else "allow",
            config=plain_settings(algorithm.config),
        )
        return WandbWriter(wandb, run)


class WandbWriter:
    """Logs to a run."""

    def __init__(self, wandb: Any, run: Any) -> None:
        self._wandb = wandb
        self._run = run
        run.define_metric("*", step_metric="env_steps")  # a run that goes on may begin before its last step

    def write(self, row: Mapping[str, Any], media: Mapping[str, Media]) -> None:
        """Log one row."""
        self._run.log({**scalars(row), **{name: self._shown(item) for name, item in media.items()}})

    def close(self) -> None:
        """End the run."""
        self._run.finish()

    def _shown(self, item: Media) -> Any:
        """Turn what is no number into what the service shows."""
        if isinstance(item, Series):
            return self._wandb.Histogram(item.values)
        if isinstance(item, Image):
            return self._wandb.Image(item.pixels)
        import imageio.v3  # the array form of `wandb.Video` wants a video library of a hundred megabytes

        frames = item.frames if item.frames.shape[-1] > 1 else item.frames[..., 0]
        gif = imageio.v3.imwrite("<bytes>", frames, extension=".gif", duration=1000 / item.fps, loop=0)
        return self._wandb.Video(io.BytesIO(gif), format="gif")
