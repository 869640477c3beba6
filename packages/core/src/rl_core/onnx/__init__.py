"""Trained policies as ONNX files: written by `export_onnx`, run by `OnnxPolicy` with onnxruntime.

Both need `pip install "rl-core[onnx]"`.
"""

from rl_core.onnx.export import export_onnx
from rl_core.onnx.policy import OnnxPolicy

__all__ = ["OnnxPolicy", "export_onnx"]
