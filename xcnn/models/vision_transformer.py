"""Vision Transformer (Dosovitskiy et al. 2021, "An image is worth 16x16 words", arXiv:2010.11929),
with torchvision's weight names.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import functional as F
from .. import init, nn
from ..errors import ArgumentError, ShapeError
from ..tensor import Parameter, Tensor
from .registry import ImageShape, family, image_shape, register_block

__all__ = ["vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32"]


@register_block
class ViTBlock(nn.Module):
    """Attention, then a GELU between two linear layers, each after a layer-norm and added to its
    input.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        self.ln_1 = nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden, nonlinearity="linear"),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, width, nonlinearity="linear"),
            nn.Dropout(dropout),
        )

    def forward(self, x: Any) -> Tensor:
        y = self.ln_1(x)
        x = self.dropout(self.self_attention(y, y, y, need_weights=False)[0]) + x
        return self.mlp(self.ln_2(x)) + x


@register_block
class ViTEncoder(nn.Module):
    """Adds an embedding of the positions; then the blocks and a layer-norm."""

    def __init__(
        self, length: int, layers: int, heads: int, width: int, hidden: int, dropout: float
    ) -> None:
        self.pos_embedding = Parameter(np.empty((1, length, width), np.float32))
        init.normal_(self.pos_embedding, std=0.02)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            {f"encoder_layer_{i}": ViTBlock(width, heads, hidden, dropout) for i in range(layers)}
        )
        self.ln = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x: Any) -> Tensor:
        return self.ln(self.layers(self.dropout(x + self.pos_embedding)))


@register_block
class VisionTransformer(nn.Module):
    """Attention between the patches of an image and a class token, which is classified.

    Parameters
    ----------
    input_shape
        (channels, height, width): multiples of ``patch``.
    num_classes
        Number of classes.
    patch
        Height and width of a patch.
    layers, heads, width, hidden
        Number of blocks and of their heads; features of each patch, and between the two linear
        layers of a block.
    dropout
        Dropout probability.
    """

    def __init__(
        self,
        input_shape: ImageShape,
        num_classes: int,
        patch: int,
        layers: int,
        heads: int,
        width: int,
        hidden: int,
        dropout: float = 0.0,
    ) -> None:
        self.input_shape = channels, rows, columns = input_shape
        count = (rows // patch) * (columns // patch)
        self.class_token = Parameter(np.zeros((1, 1, width), np.float32))
        self.conv_proj = nn.Conv2d(channels, width, patch, stride=patch)
        init.trunc_normal_(self.conv_proj.weight, std=1 / math.sqrt(channels * patch**2))
        self.encoder = ViTEncoder(count + 1, layers, heads, width, hidden, dropout)
        self.heads = nn.Sequential({"head": nn.Linear(width, num_classes)})
        init.zeros_(self.heads[0].weight)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        if x.shape[1:] != tuple(self.input_shape):
            raise ShapeError(
                f"images of shape {x.shape}: expected (N, {', '.join(map(str, self.input_shape))}),"
                " as there is a weight per position; resize them, or build the network with their "
                "input_shape"
            )
        x = F.permute(F.flatten(self.conv_proj(x), 2), (0, 2, 1))  # (N, patches, width)
        token = F.pad(self.class_token, (0, 0, 0, x.shape[1]))
        return self.heads(self.encoder(F.pad(x, (0, 0, 1, 0)) + token)[:, 0])


@family
def _vit(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    dropout: float = 0.0,
    *,
    name: str,
    patch: int,
    layers: int = 12,
    heads: int = 12,
) -> VisionTransformer:
    """Vision Transformer.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width), multiples of the size of a patch. There is one weight vector per
        position: a network takes images of this size only, and weights for it only.
    dropout
        Dropout probability, after the attention, after each linear layer and before the blocks.

    Returns
    -------
    VisionTransformer
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        Height or width not a multiple of the size of a patch, or not an image shape.
    """
    channels, height, width = image_shape(input_shape, name, patch)
    if height % patch or width % patch:
        raise ArgumentError(
            f"input_shape={input_shape}: {name} cuts images into patches of {patch}×{patch} "
            f"pixels, expected a height and a width divisible by {patch}; resize or pad the images"
        )
    shape = channels, height, width
    return VisionTransformer(
        shape, num_classes, patch, layers, heads, 64 * heads, 256 * heads, dropout
    )


vit_b_16 = _vit("vit_b_16", 86_567_656, patch=16)
vit_b_32 = _vit("vit_b_32", 88_224_232, patch=32)
vit_l_16 = _vit("vit_l_16", 304_326_632, patch=16, layers=24, heads=16)
vit_l_32 = _vit("vit_l_32", 306_535_400, patch=32, layers=24, heads=16)
