"""PPO's clipped loss of tensors that carry a graph."""

from functools import partial
from typing import NamedTuple

from torch import Tensor

from rl_core.ops.losses import clipped_terms, differentiable


class ClippedLoss(NamedTuple):
    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    kl: Tensor
    clip_fraction: Tensor


def clipped_loss(log_prob, entropy, value, **arguments):
    """The end of the graph, and what is reported of it."""
    total, report = differentiable(partial(clipped_terms, **arguments), log_prob, entropy, value)
    names = ("policy_loss", "value_loss", "entropy", "kl", "clip_fraction")
    assert set(report) == {"total_loss", *names}
    assert report["total_loss"] == total or total.isnan()
    return ClippedLoss(total, *(report[name] for name in names))
