"""The processes that train one network together, under torchrun: each reads its share of a batch.

Where there is only one, all of this is as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Workers", "joined_by_torchrun", "workers"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Workers:
    """How many there are, and which of them this process is."""

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Return whether this one writes and prints."""
        return self.rank == 0

    def own(self, rows: Sequence[_T]) -> list[_T]:
        """Return this worker's rows of a batch; where there are too few for all, one that `weight` leaves out."""
        return list(rows[self.rank :: self.count]) or list(rows[:1])

    def weight(self, units: Sequence[float]) -> float:
        """Return by what a mean over this worker's units is multiplied, so that the mean of all workers is over all.

        units  how many each row of the whole batch has
        """
        return sum(units[self.rank :: self.count]) * self.count / sum(units)

    def spread(self, module: nn.Module) -> nn.Module:
        """Return the module with gradients that are means over all workers, and the first worker's weights."""
        if self.count == 1:
            return module
        return DistributedDataParallel(module, find_unused_parameters=True)  # an objective may rest a part for a while

    def mean(self, value: float) -> float:
        """Return the mean of all workers' values."""
        if self.count == 1:
            return value
        total = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(total)
        return total.item() / self.count

    def from_first(self, make: Callable[[], _T]) -> _T:
        """Return what the first worker makes; the others wait for it."""
        if self.count == 1:
            return make()
        made = [make() if self.is_first else None]
        distributed.broadcast_object_list(made)
        return made[0]  # type: ignore[return-value]

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Return all workers' tensors, which are of one shape."""
        if self.count == 1:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.count)]
        distributed.all_gather(found, tensor.contiguous())
        return found


def workers() -> Workers:
    """Return those that this process works with."""
    if distributed.is_available() and distributed.is_initialized():
        return Workers(distributed.get_rank(), distributed.get_world_size())
    return Workers()


@contextmanager
def joined_by_torchrun() -> Iterator[Workers]:
    """Join the other processes that torchrun started, if it did."""
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield Workers()
        return
    distributed.init_process_group("gloo")
    try:
        yield workers()
        distributed.barrier()  # nobody leaves while another still listens
    finally:
        distributed.destroy_process_group()
