"""Losses with class indices as targets."""

from __future__ import annotations

from typing import Any

from .... import functional as F
from ....tensor import Tensor
from ..node import Node, operator

_NONE = -(2**63)  # never a class index, so that nothing is ignored


@operator("SoftmaxCrossEntropyLoss", buffers=(2,))
def softmax_cross_entropy(
    node: Node, scores: Tensor, labels: Tensor, weights: Tensor | None = None
) -> Any:
    if not node.has_output(1):
        return F.cross_entropy(scores, labels, **_settings(node, weights))
    log_prob = F.log_softmax(scores, 1)
    return nll_loss(node, log_prob, labels, weights), log_prob


@operator("NegativeLogLikelihoodLoss", buffers=(2,))
def nll_loss(node: Node, x: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    return F.nll_loss(x, labels, **_settings(node, weights))


def _settings(node: Node, weights: Tensor | None) -> dict[str, Any]:
    return {
        "weight": None if weights is None else weights.detach(),
        "ignore_index": node.integer("ignore_index", _NONE),
        "reduction": node.text("reduction", "mean"),
    }
