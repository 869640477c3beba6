"""A policy as an ONNX file."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rl_core.errors import ConfigError, RLError
from rl_core.onnx import metadata
from rl_core.onnx.graph import PolicyGraph
from rl_core.onnx.parity import check_parity
from rl_core.onnx.session import open_session
from rl_core.policy import Policy
from rl_core.tree import tree_leaves

OPSET = 17
"""The ONNX operators used: the first set with layer normalisation, which PyTorch 2.6 and onnxruntime 1.20 know."""
_TRACE_BATCH = 2  # not 1, which could broadcast


def export_onnx(policy: Policy, path: str | Path) -> Path:
    """Write a policy as one ONNX file that `OnnxPolicy` or any ONNX runtime can run.

    Inputs of the graph are the leaves of the module's observation, `obs` or `obs.<key>...`, and of its recurrent state,
    `state.0`, ...; outputs are the leaves of the action, `action` or `action.<key>...`, by the mode of the
    distribution, `dist_inputs` `[B, P]`, and `next_state.0`, .... All have a batch axis of any length. What stands
    around the module (spaces, connectors with their statistics, initial state) is in the model's metadata.

    What computes in half precision computes in float32 there. Before the file gets its name, its
    numbers are compared with PyTorch's over several steps on observations drawn from the space.

    Args:
        policy: Trained. It is not changed.
        path: The file, such as `policy.onnx`; one that exists is replaced.

    Returns:
        The path.

    Raises:
        RLError: the extra `onnx` is missing, the module does something that ONNX cannot express, its numbers differ, or
            the file cannot be written.
        ConfigError: a connector has no import path, or the module always draws its actions.
    """
    if policy.module.always_explores:
        raise ConfigError(
            f"export_onnx: {type(policy.module).__name__} always draws its actions (always_explores), but a graph has "
            "no random numbers. Use Policy instead."
        )
    path = Path(path)
    if path.name in ("", ".."):
        raise RLError(f"export_onnx: path: got {str(path)!r}, expected a file to write, such as policy.onnx.")
    onnx = _import_onnx()
    graph = PolicyGraph(policy)
    text = metadata.to_text(policy, graph)
    temporary = path.with_name(f".onnx-{os.getpid()}.tmp")
    try:
        _trace(graph, temporary)
        model = onnx.load_model(temporary)
        _add_unused(graph, model)
        onnx.helper.set_model_props(model, {metadata.KEY: text})
        content = model.SerializeToString()
        check_parity(graph, open_session(content, str(path)))
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        raise RLError(f"export_onnx: cannot write {path}: {error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _trace(graph: PolicyGraph, path: Path) -> None:
    """Record one step and write the model.

    With the exporter that goes through TorchScript: the newer one needs a further package (onnxscript) and seconds
    instead of milliseconds, and differs much from one PyTorch to the next.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's age, and of branches on shapes, which the comparison tests
        try:
            torch.onnx.export(
                graph,
                _trace_inputs(graph),
                path,
                input_names=graph.inputs,
                output_names=graph.outputs,
                dynamic_axes={name: {0: "batch"} for name in (*graph.inputs, *graph.outputs)},
                opset_version=OPSET,
                dynamo=False,
            )
        except OSError:
            raise
        except Exception as error:  # the exporter's own and whatever the module raises
            raise RLError(
                f"export_onnx: {type(graph.module).__name__} cannot be written in ONNX's operators of version {OPSET}: "
                f"{error}"
            ) from error


def _trace_inputs(graph: PolicyGraph) -> tuple[torch.Tensor, ...]:
    """Make the tensors to record a step on."""
    state = graph.module.initial_state(_TRACE_BATCH)
    return *graph.draw_obs(_TRACE_BATCH, np.random.default_rng(0)), *tree_leaves(state)


def _add_unused(graph: PolicyGraph, model: Any) -> None:
    """Give the model the inputs that the module does not look at, which recording drops: callers know all of them."""
    import onnx

    present = {node.name: node for node in model.graph.input}
    del model.graph.input[:]
    for name, leaf in zip(graph.inputs, _trace_inputs(graph), strict=True):
        kind, shape = onnx.helper.np_dtype_to_tensor_dtype(leaf.numpy().dtype), ["batch", *leaf.shape[1:]]
        model.graph.input.append(present.get(name) or onnx.helper.make_tensor_value_info(name, kind, shape))


def _import_onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise RLError(f"onnx is needed to export a policy ({error}): {metadata.INSTALL_HINT}") from error
    return onnx
