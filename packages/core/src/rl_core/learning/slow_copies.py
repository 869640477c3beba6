"""Copies of modules that follow them slowly: target networks."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final, Generic, TypeVar

import torch
from torch import Tensor, nn

from rl_core.module.half import HALF

M = TypeVar("M", bound=nn.Module)


class SlowCopies(Generic[M]):
    """Copies of modules, by name.

    Those in half precision have their weights in float32 as well: most steps of a small `tau` are less than half
    precision can show.
    """

    def __init__(self, online: Mapping[str, M]) -> None:
        """Copy modules as they are now; they stay where they are and in the precision that they have."""
        self.modules: Final[dict[str, M]] = {
            name: copy.deepcopy(module).requires_grad_(False) for name, module in online.items()
        }
        self._online: list[Tensor] = [tensor for module in online.values() for tensor in module.parameters()]
        self._slow: list[Tensor] = [tensor for module in self.modules.values() for tensor in module.parameters()]
        self._exact: dict[str, dict[str, Tensor]] = {}
        if any(tensor.dtype in HALF.values() for tensor in self._slow):
            self._exact = {
                name: {key: tensor.float() for key, tensor in module.named_parameters()}
                for name, module in self.modules.items()
            }

    def follow(self, tau: float) -> None:
        """Move the copies' weights towards the modules': `slow += tau (online - slow)`."""
        with torch.no_grad():
            if not self._exact:
                torch._foreach_lerp_(self._slow, self._online, tau)
                return
            exact = [tensor for part in self._exact.values() for tensor in part.values()]
            torch._foreach_lerp_(exact, [tensor.float() for tensor in self._online], tau)
            torch._foreach_copy_(self._slow, exact)

    def get_state(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors of each copy, weights in float32 where it has them."""
        return {name: dict(module.state_dict()) | self._exact.get(name, {}) for name, module in self.modules.items()}

    def set_state(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Take back what `get_state` gave, of copies in whatever precision."""
        for name, module in self.modules.items():
            module.load_state_dict(dict(state[name]))
            for key, exact in self._exact.get(name, {}).items():
                exact.copy_(state[name][key])
