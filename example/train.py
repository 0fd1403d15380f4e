"""Train a small CNN on handwritten digits, by torch and with its convolutions swapped, side by
side: `python -m example.train`. The loss curves are drawn to out/train.png."""

import argparse
import copy
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

import ai3

CHART = Path("out/train.png")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def digits() -> tuple[Tensor, Tensor]:
    """1797 images, (N, 1, 8, 8) with values up to 1, and their classes."""
    images, classes = load_digits(return_X_y=True)
    return torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(classes)


def train(net: nn.Module, epochs: int, batch: int = 64) -> list[float]:
    """The loss of every step; batches are the same at every call."""
    images, classes = digits()
    order = torch.Generator().manual_seed(1)
    optimizer = torch.optim.SGD(net.train().parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(epochs):
        for chosen in torch.randperm(len(images), generator=order).split(batch):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(images[chosen]), classes[chosen])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


@torch.inference_mode()
def accuracy(net: nn.Module) -> float:
    images, classes = digits()
    return (net.eval()(images).argmax(1) == classes).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=4)
    epochs = parser.parse_args().epochs

    theirs = network()
    own = copy.deepcopy(theirs)
    ai3.swap_conv2d(own, [ai3.Conv2dAlgorithms("direct", "winograd", "direct"), "winograd"])
    curves = {"torch": train(theirs, epochs), "swapped": train(own, epochs)}
    for name, net in {"torch": theirs, "swapped": own}.items():
        print(f"{name:8} last loss {curves[name][-1]:.6f}, accuracy {accuracy(net):.2%}")
    gap = max(abs(a - b) for a, b in zip(*curves.values(), strict=True))
    print(f"losses of {len(curves['torch'])} steps differ by {gap:.2g} at most")
    for layer in ai3.swapped(own):
        print(f"  {layer.name or 'the network'}: {layer.algorithm}, {layer.why}")
    CHART.parent.mkdir(exist_ok=True)
    _draw(curves, CHART)
    print(f"The chart is in {CHART}")


def _draw(curves: dict[str, list[float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for (name, losses), style in zip(curves.items(), ("-", "--"), strict=True):
        axes.plot(losses, style, label=name)
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.set_title("A small CNN learns digits", loc="left")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    main()
