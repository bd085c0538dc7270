"""The networks whose training is compared, for xcnn and PyTorch alike: ``nn`` is either's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Net(NamedTuple):
    """A network: its input (C, H, W), its optimiser, and how each peer builds it."""

    image: tuple[int, int, int]
    classes: int
    optimizer: str
    xcnn: Callable[[], Any]
    torch: Callable[[], Any]


def lenet5(nn: Any) -> Any:
    """LeNet-5 for 28×28 images, 61,706 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def vgg(nn: Any) -> Any:
    """Six convolutions 3×3 in three stages and one dense layer, for 32×32 images."""
    layers, channels = [], 3
    for width in (32, 64, 128):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, 10))


def _of_xcnn(build: Callable[[Any], Any]) -> Callable[[], Any]:
    def make() -> Any:
        from xcnn import nn

        return build(nn)

    return make


def _of_torch(build: Callable[[Any], Any]) -> Callable[[], Any]:
    def make() -> Any:
        from torch import nn

        return build(nn)

    return make


def xcnn_resnet18() -> Any:
    import xcnn

    return xcnn.models.create("resnet18", num_classes=1000, input_shape=(3, 224, 224))


def torch_resnet18() -> Any:
    """ResNet-18 as in torchvision, which need not be installed: 11,689,512 parameters."""
    from torch import nn
    from torch.nn import functional as F

    def normed(inputs: int, outputs: int, kernel: int, stride: int, padding: int) -> Any:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(outputs))

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.first = normed(inputs, outputs, 3, stride, 1)
            self.second = normed(outputs, outputs, 3, 1, 1)
            same = inputs == outputs and stride == 1
            self.shortcut = nn.Identity() if same else normed(inputs, outputs, 1, stride, 0)

        def forward(self, x: Any) -> Any:
            return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))

    blocks, channels = [], 64
    for width in (64, 128, 256, 512):
        blocks += [Block(channels, width, 1 if width == 64 else 2), Block(width, width, 1)]
        channels = width
    return nn.Sequential(
        *(normed(3, 64, 7, 2, 3), nn.ReLU(), nn.MaxPool2d(3, 2, 1), *blocks),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000)),
    )


NETS = {
    "lenet5": Net((1, 28, 28), 10, "adam", _of_xcnn(lenet5), _of_torch(lenet5)),
    "vgg": Net((3, 32, 32), 10, "adam", _of_xcnn(vgg), _of_torch(vgg)),
    "resnet18": Net((3, 224, 224), 1000, "sgd", xcnn_resnet18, torch_resnet18),
}
