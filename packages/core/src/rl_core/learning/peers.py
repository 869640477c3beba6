"""Learners in several processes that train copies of one module: what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import Store

from rl_core.errors import WorkerError


class PeerLostError(WorkerError):
    """Another learner did not answer; the step was not taken."""


def _backend(store: Store, rank: int, size: int, device: torch.device) -> str:
    """Choose who carries gradients: NCCL between GPUs, Gloo elsewhere and where learners share a GPU."""
    if device.type != "cuda":
        return "gloo"
    # Without this NCCL does not say that another learner was lost: it ends the process.
    os.environ["TORCH_NCCL_BLOCKING_WAIT"] = "1"
    store.set(f"GPU of {rank}", str(torch.cuda.get_device_properties(device).uuid))
    return "nccl" if len({store.get(f"GPU of {other}") for other in range(size)}) == size else "gloo"


class Peers:
    """The learners that take every optimiser step together, one per process.

    All of them call the same methods in the same order, and every call waits for all. Gradients are averaged by one
    reduction of each optimizer's buffer.
    """

    def __init__(self, store: Store, *, rank: int, size: int, device: torch.device, timeout_s: float) -> None:
        """Meet the others.

        Args:
            store: Where all of them find each other.
            rank: Which of them this one is.
            size: How many there are.
            device: Where gradients are.
            timeout_s: Until one that does not answer counts as lost, in seconds.

        Raises:
            PeerLostError: they did not all come.
        """
        self.size = size
        timeout = timedelta(seconds=timeout_s)
        store.set_timeout(timeout)
        try:
            backend = _backend(store, rank, size, device)
            self._numbers = device if backend == "nccl" else torch.device("cpu")
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        except RuntimeError as error:
            raise PeerLostError(f"Learner {rank} of {size} could not meet the others: {error}") from error

    def leave(self) -> None:
        """Part from the others; needed before meeting anew."""
        dist.destroy_process_group()

    def _reduce(self, values: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
        try:
            dist.all_reduce(values, operation)
        except RuntimeError as error:
            raise PeerLostError(f"Another learner was lost: {error}") from error
        return values

    def smallest(self, number: int) -> int:
        """The smallest of the learners' numbers."""
        return int(self._reduce(torch.tensor(number, device=self._numbers), dist.ReduceOp.MIN))

    def weight(self, num_samples: int) -> float:
        """What a mean over this learner's samples counts for, so that averaged over learners it is that over all."""
        total = self._reduce(torch.tensor(float(num_samples), dtype=torch.float64, device=self._numbers))
        return num_samples * self.size / float(total)

    def std_mean(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Standard deviation (unbiased) and mean over the values of all learners."""
        wide = values.double()
        sums = self._reduce(torch.stack((wide.new_tensor(wide.numel()), wide.sum(), wide.square().sum())))
        count, total, squares = sums
        mean = total / count
        variance = (squares - total * mean).clamp(min=0.0) / (count - 1)
        return variance.sqrt().to(values.dtype), mean.to(values.dtype)

    def average(self, gradients: Sequence[Tensor]) -> None:
        """Replace gradients by their means over the learners, in place."""
        flat = torch.cat([gradient.flatten() for gradient in gradients]).float() if len(gradients) > 1 else gradients[0]
        wide = flat.float()  # itself, unless the gradients are in half precision
        self._reduce(wide).div_(self.size)
        if wide is gradients[0]:
            return
        parts = torch.split(wide, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view(gradient.shape))
