"""Torchvision, also where its compiled operators are for another build of PyTorch."""

import pytest

torch = pytest.importorskip("torch")
try:
    torchvision = pytest.importorskip("torchvision")
except RuntimeError:  # networks need none of these operators
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    torchvision = pytest.importorskip("torchvision")


@pytest.fixture(autouse=True)
def one_thread():
    """Many small steps of PyTorch's threads take long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def shake(model):
    """Weights and running averages of a batch-norm as after some training."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, 0, 0.2)
            torch.nn.init.normal_(module.running_mean, 0, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
