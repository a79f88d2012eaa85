"""A small vision transformer whose operations can be bounded.

It follows Dosovitskiy et al. 2021 (arXiv:2010.11929), with the three changes of the transformers of
VNN-COMP 2023, which make certified training possible: batch normalisation instead of layer
normalisation, because it is affine when it is bounded; ReLU instead of GELU; and the mean over
tokens instead of a class token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from verify_pipeline.network.zoo.layers import Normalise, scaled
from verify_pipeline.network.zoo.plan import LayerPlan

DEPTH = 2
HEADS = 3
HEAD_SIZE = 16


class TokenNorm(nn.Module):
    """BatchNorm1d over the features of ``N x tokens x features``, or nothing."""

    def __init__(self, features: int, batch_norm: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(features) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``N x tokens x features``."""
        normalised: Tensor = self.norm(x.transpose(1, 2))
        return normalised.transpose(1, 2)


class Attention(nn.Module):
    """Multi-head softmax attention (Vaswani et al. 2017, arXiv:1706.03762, eq. 1)."""

    def __init__(self, features: int, tokens: int) -> None:
        super().__init__()
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.out = nn.Linear(features, features)
        self.shape = (tokens, HEADS, features // HEADS)

    def forward(self, x: Tensor) -> Tensor:
        """``N x tokens x features`` to the same."""
        query = self.query(x).reshape(-1, *self.shape).permute(0, 2, 1, 3)
        key = self.key(x).reshape(-1, *self.shape).permute(0, 2, 3, 1)
        value = self.value(x).reshape(-1, *self.shape).permute(0, 2, 1, 3)
        weights = torch.softmax(query @ key * self.shape[2] ** -0.5, dim=-1)
        mixed = (weights @ value).permute(0, 2, 1, 3)
        out: Tensor = self.out(mixed.reshape(-1, self.shape[0], self.shape[1] * self.shape[2]))
        return out


class Block(nn.Module):
    """Attention, then two dense layers. Each part normalises its input and has a shortcut."""

    def __init__(self, features: int, tokens: int, batch_norm: bool) -> None:
        super().__init__()
        self.norm_1 = TokenNorm(features, batch_norm)
        self.attention = Attention(features, tokens)
        self.norm_2 = TokenNorm(features, batch_norm)
        self.dense = nn.Sequential(
            nn.Linear(features, 2 * features), nn.ReLU(), nn.Linear(2 * features, features)
        )

    def forward(self, x: Tensor) -> Tensor:
        """``N x tokens x features`` to the same."""
        x = x + self.attention(self.norm_1(x))
        out: Tensor = x + self.dense(self.norm_2(x))
        return out


class VisionTransformer(nn.Module):
    """Square patches → tokens + positions → blocks → mean over tokens → Linear K."""

    def __init__(self, plan: LayerPlan) -> None:
        super().__init__()
        channels, height, width = plan.input_shape
        patch = max(2, height // 4)
        tokens = (height // patch) * (width // patch)
        features = HEADS * scaled(HEAD_SIZE, plan.width)
        norm = True if plan.batch_norm is None else plan.batch_norm
        self.normalise = Normalise(plan.mean, plan.std)
        self.patches = nn.Conv2d(channels, features, patch, patch)
        self.flatten = nn.Flatten(2)
        self.positions = nn.Parameter(torch.randn(1, tokens, features) * 0.02)
        self.blocks = nn.Sequential(*(Block(features, tokens, norm) for _ in range(DEPTH)))
        self.head = nn.Linear(features, plan.classes)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels ``N x C x H x W`` in [0, 1] to logits ``N x K``."""
        tokens = self.flatten(self.patches(self.normalise(x))).transpose(1, 2)
        out: Tensor = self.head(self.blocks(tokens + self.positions).mean(1))
        return out


def vit(plan: LayerPlan) -> nn.Module:
    """4 × 4 tokens, 48 features in 3 heads, 2 blocks."""
    return VisionTransformer(plan)
