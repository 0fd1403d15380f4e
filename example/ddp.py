"""Train a swapped network in two processes with DistributedDataParallel, and compare with one
process that sees the whole batch: `python -m example.ddp`."""

import copy
import tempfile
from pathlib import Path

import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

import ai3
from example.train import digits, network

PROCESSES = 2
STEPS = 5
BATCH = 32


def swapped() -> nn.Sequential:
    net = network()[:4]  # without batch norm, whose statistics are each process's own
    net.append(nn.Flatten()).append(nn.Linear(32 * 4 * 4, 10))
    ai3.swap_conv2d(net)
    return net


def step(net: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, classes: Tensor) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(images), classes).backward()
    optimizer.step()


def work(rank: int, folder: str) -> None:
    """One process of several."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", store, rank=rank, world_size=PROCESSES)
    try:
        train(rank, folder)
        distributed.barrier()  # nobody leaves while another still hears from it
    finally:
        distributed.destroy_process_group()


def train(rank: int, folder: str) -> None:
    """Steps with this process's share of each batch."""
    torch.manual_seed(0)
    net = swapped()
    parallel = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(parallel.parameters(), lr=0.1)
    images, classes = digits()
    for i in range(STEPS):
        share = slice(i * BATCH + rank, (i + 1) * BATCH, PROCESSES)
        step(parallel, optimizer, images[share], classes[share])
    if rank == 0:
        gradients = {name: p.grad for name, p in net.named_parameters()}
        torch.save({"state": net.state_dict(), "gradients": gradients}, f"{folder}/result")


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max((a[name] - b[name]).abs().max().item() for name in a)


def main() -> None:
    torch.manual_seed(0)
    net = swapped()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    images, classes = digits()
    for i in range(STEPS):
        share = slice(i * BATCH, (i + 1) * BATCH)
        step(net, optimizer, images[share], classes[share])

    with tempfile.TemporaryDirectory() as folder:
        spawn(work, (folder,), nprocs=PROCESSES)
        result = torch.load(Path(folder) / "result", weights_only=True)
    gradients = {name: copy.copy(p.grad) for name, p in net.named_parameters()}
    print(f"{PROCESSES} processes and one, after {STEPS} steps:")
    print(f"  gradients differ by {largest_difference(gradients, result['gradients']):.2g}")
    print(f"  weights differ by {largest_difference(net.state_dict(), result['state']):.2g}")


if __name__ == "__main__":
    main()
