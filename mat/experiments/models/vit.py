"""Vision Transformer (torchvision's class) for square images of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import nn

from mat.errors import InputError
from mat.experiments.models.checks import MOST_WIDTH, Dropout, Groups, LayerCount, Width, check_groups, check_heads
from mat.experiments.models.closed_form import Layers, Work, feed_forward, total, transformer
from mat.experiments.task_signature import Signature, check_signature
from mat.limits import Range, check_limits
from mat.partition.discovery import partition_model
from mat.partition.partition import Partition


@dataclass(frozen=True)
class Settings:
    """An encoder over patches."""

    patch: Annotated[int, Range(ge=1, le=1024)] = 8
    """Pixels of a patch's side."""
    layers: LayerCount = 6
    """Encoder layers."""
    width: Width = 192
    """Hidden size."""
    heads: Width = 3
    """Attention heads per layer."""
    mlp: Annotated[int, Range(ge=1, le=4 * MOST_WIDTH)] | None = None
    """Neurons of a feed-forward block; none: 4 · width."""
    dropout: Dropout = 0.0
    """Of embeddings, residual branches and neurons, in [0, 1)."""
    head_outputs: bool = True
    """Whether a head owns its columns of W_O, or the remainder has W_O (A4)."""
    ffn_groups: Groups = 1
    """Modules per feed-forward block; 0: these blocks are the remainder's (A5)."""

    def __post_init__(self) -> None:
        check_limits(self)
        check_heads(self.width, self.heads)
        check_groups(self.ffn_groups, neurons(self))


def neurons(settings: Settings) -> int:
    """Width of a feed-forward block."""
    return 4 * settings.width if settings.mlp is None else settings.mlp


def build(settings: Settings, signature: Signature) -> nn.Module:
    """A ``torchvision.models.VisionTransformer`` for images of the example's shape (1, C, H, H)."""
    from torchvision.models import VisionTransformer

    channels, size = _image(settings, signature)
    model = VisionTransformer(
        image_size=size,
        patch_size=settings.patch,
        num_layers=settings.layers,
        num_heads=settings.heads,
        hidden_dim=settings.width,
        mlp_dim=neurons(settings),
        dropout=settings.dropout,
        num_classes=signature.outputs,
    )
    if channels != 3:  # torchvision's constructor knows three only
        model.conv_proj = nn.Conv2d(channels, settings.width, settings.patch, settings.patch)
        nn.init.trunc_normal_(model.conv_proj.weight, std=(channels * settings.patch**2) ** -0.5)
        nn.init.zeros_(model.conv_proj.bias)
    # torchvision starts the class head at zero, where no logit depends on anything below: every kernel would be zero
    nn.init.trunc_normal_(model.heads.head.weight, std=0.02)
    return model


def _image(settings: Settings, signature: Signature) -> tuple[int, int]:
    """Channels and side of the example. Raises InputError for inputs that are no squares of whole patches."""
    check_signature("vit", signature, "image_classification")
    _, channels, height, width = signature.example["x"].shape
    if height != width or height % settings.patch:
        raise InputError(
            f"square images whose side patch={settings.patch} divides are expected, got {height} × {width} pixels; "
            "choose another patch, or a task with square images"
        )
    return channels, height


def partition(settings: Settings, model: nn.Module) -> Partition:
    return partition_model(model, ffn_groups=settings.ffn_groups, head_outputs=settings.head_outputs)


def work(settings: Settings, signature: Signature, batch: int) -> Layers:
    """Multiply-adds of one training step of ``batch`` images, per module and for the remainder.

    Heads and neuron groups as in ``bert.work``, over sequences of the (H / patch)² patches and the class token. The
    remainder's products are the class head, d·outputs per image, and the projection of C·patch² pixels to
    d for each patch, whose input, the image, gets no gradient, and the W_O and feed-forward blocks left to it.
    """
    channels, size = _image(settings, signature)
    d, patches = settings.width, (size // settings.patch) ** 2
    tokens = batch * (patches + 1)
    blocks, rest = feed_forward(settings.layers, settings.ffn_groups, 2 * d * neurons(settings) * tokens)
    projection, classes = batch * patches * channels * settings.patch**2 * d, batch * d * signature.outputs
    rest = total(rest, Work(projection + classes, projection + classes, classes))
    return transformer(settings, patches + 1, tokens, blocks, rest)
