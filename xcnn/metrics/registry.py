"""Metrics by name."""

from __future__ import annotations

import difflib
import re
from typing import Any

from ..checks import check_text
from ..errors import ArgumentError, show
from ..nn import Loss
from .metric import BY_NAME, Metric, check_loss
from .regression import LossTerm

_ALIASES = {"roc_auc": "auroc", "map": "average_precision", "miou": "iou"}
_TOP = re.compile(r"top_?([1-9]\d*)(?:_accuracy)?")
_TITLES = {
    **{"f1": "F1", "iou": "IoU", "psnr": "PSNR", "ssim": "SSIM", "r2": "R²", "mae": "MAE"},
    **{"mse": "MSE", "auroc": "AUROC", "average_precision": "mAP", "lr": "Learning rate"},
    **{"kl": "KL divergence", "d_loss": "Discriminator loss", "g_loss": "Generator loss"},
    **{"psnr_bicubic": "PSNR of bicubic interpolation"},
    **{"coco_map": "mAP", "map_50": "mAP@0.5", "map_75": "mAP@0.75", "pck": "PCK"},
}
_AVERAGED = re.compile(r"(precision|recall|f1|iou|dice)_(macro|micro|weighted)")


def names() -> list[str]:
    """Return the names that :func:`create` takes, sorted.

    It also takes "top_K_accuracy" or "topK" for any K; "precision", "recall", "f1", "iou" and
    "dice" followed by "_macro", "_micro" or "_weighted"; "roc_auc", "map" and "miou"; and the terms
    of a loss that has several.
    """
    return sorted(BY_NAME)


def title(name: str) -> str:
    """The name of a metric, or of another column of a history, as people write it.

    Examples
    --------
    >>> xcnn.metrics.title("iou"), xcnn.metrics.title("top_5_accuracy")
    ('IoU', 'Top 5 accuracy')
    """
    name = check_text("name", name)
    return _TITLES.get(name, name.replace("_", " ").capitalize())


def create(name: str | Metric, loss: Loss | None = None, **settings: Any) -> Metric:
    """Create a metric, for the targets of a loss.

    Parameters
    ----------
    name
        As :func:`names` lists; or a metric, which is returned.
    loss
        The loss that the model is trained with: the metric then reads targets as the loss does,
        and ignores the same labels. Needed for the metric "loss".
    **settings
        Arguments of the metric's class, such as ``average``.

    Raises
    ------
    ArgumentError
        An unknown name, or a metric that does not fit the targets of the loss.

    Examples
    --------
    >>> f1 = xcnn.metrics.create("f1", nn.CrossEntropyLoss(ignore_index=255))
    >>> for x, y in loader:
    ...     f1.update(F.softmax(model(x)), y)
    >>> 0 <= f1.compute() <= 1
    True
    """
    loss = None if loss is None else check_loss(loss)
    metric = name if isinstance(name, Metric) else _build(str(name), loss, settings)
    if loss is not None:
        metric.match_loss(loss)
    return metric


def _build(name: str, loss: Loss | None, settings: dict[str, Any]) -> Metric:
    key = _ALIASES.get(name, name)
    if match := _TOP.fullmatch(key):
        key, settings = "top_5_accuracy", {"k": int(match[1]), **settings}
    elif match := _AVERAGED.fullmatch(key):
        key, settings = match[1], {"average": match[2], **settings}
    if loss is not None and key in loss.term_names:
        return LossTerm(loss, key)
    if key not in BY_NAME:
        similar = difflib.get_close_matches(key, [*BY_NAME, *_ALIASES], 1)
        hint = f'; did you mean "{similar[0]}"?' if similar else ""
        raise ArgumentError(f"metric={show(name)}: expected one of {', '.join(names())}{hint}")
    if key == "loss":
        if loss is None:
            raise ArgumentError('metric "loss" needs a loss: create("loss", nn.MSELoss())')
        settings = {"loss": loss, **settings}
    return BY_NAME[key](**settings)
