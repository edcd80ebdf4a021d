"""Augmentation of image batches by torchvision's kernels, with draws of one's own.

torchvision's transforms draw from the global generator, which a batch that is a pure function of (seed, epoch, step)
must not touch; here every random number comes from the generator that is given. torchvision is imported where images
are changed, because it takes two seconds and most of what knows a task changes none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Generator, Tensor

Augment = Callable[[Tensor, Generator], Tensor]
ATTEMPTS = 10
AUGMENTATIONS = ("crop", "resized_crop", "none")
AREA = (0.08, 1.0)
LOG_RATIO = (math.log(3 / 4), math.log(4 / 3))


def augmentation(kind: str, side: int) -> Augment | None:
    """The augmentation ``kind``, one of ``AUGMENTATIONS``, for images of ``side`` pixels, each with flips; None for
    'none'. 'crop': random crops after zero padding by an eighth of ``side`` (4 pixels of 32, 8 of 64)."""
    crops = {"crop": partial(random_shift, shift=side // 8), "resized_crop": random_resized_crop, "none": None}
    crop = crops[kind]
    return crop and (lambda images, draws: random_flip(crop(images, draws), draws))


def random_shift(images: Tensor, draws: Generator, shift: int) -> Tensor:
    """Each of ``images`` [B, C, H, W] moved by its own uniform offset in -shift … shift on both axes, zeros coming in
    from outside: the same as a random crop after zero padding by ``shift``."""
    from torchvision.transforms.v2 import functional

    count, _, height, width = images.shape
    offsets = torch.randint(0, 2 * shift + 1, (2, count), generator=draws).T.tolist()
    padded = functional.pad_image(images, [shift] * 4)
    pairs = zip(padded, offsets, strict=True)
    return torch.stack([functional.crop_image(image, *offset, height, width) for image, offset in pairs])


def random_flip(images: Tensor, draws: Generator) -> Tensor:
    """Each of ``images`` [B, C, H, W] mirrored left-right with probability 1/2."""
    from torchvision.transforms.v2 import functional

    mirrored = torch.randint(0, 2, (len(images),), generator=draws).bool()
    flipped = images.clone()
    flipped[mirrored] = functional.horizontal_flip_image(images[mirrored])
    return flipped


def random_resized_crop(images: Tensor, draws: Generator) -> Tensor:
    """Of each square image of ``images`` [B, C, H, H] a random part (`crop_boxes`), resized to the whole's size with
    antialiasing: Inception's augmentation, torchvision's ``RandomResizedCrop``."""
    from torchvision.transforms.v2 import functional

    side = images.shape[-1]
    pairs = zip(images, crop_boxes(len(images), side, draws).tolist(), strict=True)
    return torch.stack([functional.resized_crop_image(image, *box, [side, side]) for image, box in pairs])


def crop_boxes(count: int, side: int, draws: Generator) -> Tensor:
    """Top, left, height and width, int64 [count, 4], of random boxes in squares of ``side`` pixels.

    A box has an area uniform in 8 … 100 % of the square and a ratio of width to height log-uniform in 3/4 … 4/3; the
    first of ten draws that fits inside is taken, else the whole square; its place is uniform.
    """
    area, ratio = torch.rand(2, count, ATTEMPTS, generator=draws, dtype=torch.float64)
    area = (AREA[0] + (AREA[1] - AREA[0]) * area) * side**2
    ratio = (LOG_RATIO[0] + (LOG_RATIO[1] - LOG_RATIO[0]) * ratio).exp()
    sizes = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], -1).round().long()
    fits = ((sizes > 0) & (sizes <= side)).all(-1)
    first = fits.int().argmax(1)
    size = torch.where(fits.any(1)[:, None], sizes[torch.arange(count), first], side)
    place = torch.rand(count, 2, generator=draws, dtype=torch.float64)
    return torch.cat([(place * (side - size + 1)).long(), size], 1)
