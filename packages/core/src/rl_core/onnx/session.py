"""onnxruntime, opened the way policies use it."""

from __future__ import annotations

from typing import Any

from rl_core.errors import CheckpointError, RLError
from rl_core.onnx.metadata import INSTALL_HINT


def open_session(model: bytes, where: str) -> Any:
    """Load a model to run on one thread of the CPU: the networks are too small to share out.

    Args:
        model: The content of an ONNX file.
        where: The file, for messages.

    Raises:
        RLError: onnxruntime is missing.
        CheckpointError: it is no model, or not one that onnxruntime can run.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise RLError(f"onnxruntime is needed to run {where} ({error}): {INSTALL_HINT}") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; they are raised too
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own, which have no common base
        raise CheckpointError(f"{where} is no ONNX model that onnxruntime can run: {error}") from error
