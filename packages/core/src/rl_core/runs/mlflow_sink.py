"""MLflow, which is imported when a run with this sink has its first result."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rl_core.algorithm.sinks import Sink
from rl_core.errors import ConfigError
from rl_core.metrics import Image, Media, Video
from rl_core.runs.png import encode_png
from rl_core.runs.sinks import plain_settings, scalars

if TYPE_CHECKING:
    from rl_core.algorithm.algorithm import Algorithm

RUN_ID_TAG = "rl_core_run_id"
MAX_PARAMETER_LENGTH = 500
"""Longer settings are cut; servers refuse them."""


@dataclass(frozen=True, slots=True)
class MLflowSink(Sink):
    """A run on an MLflow server or in its local store, its steps being env steps; series are left out."""

    experiment: str = "Default"
    """Experiment there; made if missing."""
    name: str | None = None
    """Name of the run; None makes one up."""
    tracking_uri: str | None = None
    """A server, or a store such as `sqlite:///mlflow.db`; None is MLFLOW_TRACKING_URI, or MLflow's default."""
    run_id: str | None = None
    """A mark of yours for the run, kept there as a tag: a sink with the same one goes on with that run. None always
    begins a new one."""

    def open(self, algorithm: Algorithm) -> MLflowWriter:
        """Begin the run.

        Raises:
            ConfigError: the extra is not installed.
        """
        try:
            import mlflow
        except ImportError as error:
            raise ConfigError(
                f"reporting.sinks: MLflowSink needs the extra ({error}): pip install 'rl-core[mlflow]'"
            ) from error
        client = mlflow.MlflowClient(tracking_uri=self.tracking_uri)
        experiment = client.get_experiment_by_name(self.experiment)
        place = client.create_experiment(self.experiment) if experiment is None else experiment.experiment_id
        tags = {} if self.run_id is None else {RUN_ID_TAG: self.run_id}
        known = client.search_runs([place], f"tags.{RUN_ID_TAG} = '{self.run_id}'", max_results=1) if tags else ()
        if known:
            client.update_run(known[0].info.run_id, status="RUNNING")
            return MLflowWriter(mlflow, client, known[0].info.run_id)
        run_id = client.create_run(place, run_name=self.name, tags=tags).info.run_id
        settings = {name: str(value)[:MAX_PARAMETER_LENGTH] for name, value in plain_settings(algorithm.config).items()}
        client.log_batch(run_id, params=[mlflow.entities.Param(*pair) for pair in settings.items()])
        return MLflowWriter(mlflow, client, run_id)


class MLflowWriter:
    """Logs to a run."""

    def __init__(self, mlflow: Any, client: Any, run_id: str) -> None:
        self._mlflow = mlflow
        self._client = client
        self._run_id = run_id

    def write(self, row: Mapping[str, Any], media: Mapping[str, Media]) -> None:
        """Log one row."""
        step, now = row["env_steps"], time.time_ns() // 1_000_000
        figures = [
            self._mlflow.entities.Metric(_allowed(name), value, now, step) for name, value in scalars(row).items()
        ]
        self._client.log_batch(self._run_id, metrics=figures)
        for name, item in media.items():
            if isinstance(item, Image):
                pixels = item.pixels if item.pixels.shape[-1] > 1 else item.pixels[..., 0]
                self._client.log_image(self._run_id, pixels, key=_allowed(name), step=step)
            elif isinstance(item, Video):
                self._log_video(_allowed(name), step, item)

    def _log_video(self, name: str, step: int, video: Video) -> None:
        """Store an animated image: the service has no videos."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{step}.png"
            path.write_bytes(encode_png(video.frames, fps=video.fps))
            self._client.log_artifact(self._run_id, str(path), artifact_path=f"videos/{name}")

    def close(self) -> None:
        """End the run."""
        self._client.set_terminated(self._run_id)


def _allowed(name: str) -> str:
    """Replace the characters that MLflow does not take in a name."""
    return re.sub(r"[^\w\-. :/]", "_", name)
