"""Several processes training one network, each on batches of its own, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, nn
from torch.distributed import all_reduce, barrier, broadcast, destroy_process_group
from torch.distributed import init_process_group as connect

from fpcodec.errors import InputError

_PATIENCE = timedelta(hours=6)  # the first process caches, measures and exports while others wait


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank: Its number; the first, 0, writes all files.
        count: How many there are.
        device: What it computes on.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Until every process is here."""
        if self.count > 1:
            barrier()

    def share(self, network: nn.Module) -> None:
        """Give every process the first one's weights."""
        if self.count > 1:
            for values in network.state_dict().values():
                broadcast(values, 0)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Mean gradients over the processes, in one exchange."""
        if self.count == 1:
            return
        gradients = [x.grad for x in parameters if x.grad is not None]
        flat = torch.cat([x.reshape(-1) for x in gradients])
        all_reduce(flat)
        flat /= self.count
        parts = torch.split(flat, [x.numel() for x in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def agree(self, value: float) -> float:
        """The first process's value, in all of them."""
        if self.count == 1:
            return value
        shared: Tensor = torch.tensor([value], dtype=torch.float64, device=self.device)
        broadcast(shared, 0)
        return float(shared)


@contextmanager
def joined(device: str = "auto") -> Iterator[Processes]:
    """Find the device, and the other processes where torchrun started several.

    Args:
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: There is no CUDA device and one was asked for.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise InputError("no CUDA device is here; use --device cpu, or auto")
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    own = torch.device("cpu")
    if cuda and device != "cpu":
        own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(own)
    if count > 1:
        connect("nccl" if own.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Processes(rank, count, own)
    finally:
        if count > 1:
            destroy_process_group()
