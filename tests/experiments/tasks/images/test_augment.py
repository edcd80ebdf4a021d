"""Augmentation: the same as cropping, flipping and resizing one image at a time, with draws that are uniform."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms import v2

from mat.experiments.tasks.images.augment import (
    augmentation,
    crop_boxes,
    random_flip,
    random_resized_crop,
    random_shift,
)


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shift_equals_cropping_one_image_at_a_time() -> None:
    images = torch.randint(1, 256, (50, 3, 6, 5), generator=draws(), dtype=torch.uint8)
    moved = random_shift(images, draws(1), 2)
    offsets = torch.randint(0, 5, (2, 50), generator=draws(1))
    for i, image in enumerate(images):
        canvas = torch.zeros(3, 10, 9, dtype=torch.uint8)
        canvas[:, 2:8, 2:7] = image
        top, left = offsets[:, i].tolist()
        assert torch.equal(moved[i], canvas[:, top : top + 6, left : left + 5])
    assert {tuple(pair) for pair in offsets.T.tolist()} > {(0, 0), (4, 4)}


def test_flip_mirrors_about_half() -> None:
    images = torch.arange(400 * 4).reshape(400, 1, 2, 2)
    flipped = random_flip(images, draws())
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert ((flipped == images).flatten(1).all(1) ^ mirrored).all()
    assert 140 < mirrored.sum() < 260
    assert torch.equal(images, torch.arange(400 * 4).reshape(400, 1, 2, 2))


def test_boxes_are_those_of_the_rule_taken_draw_by_draw() -> None:
    side, count = 16, 200
    boxes = crop_boxes(count, side, draws(3))
    stream = draws(3)
    areas, ratios = torch.rand(2, count, 10, generator=stream, dtype=torch.float64).tolist()
    places = torch.rand(count, 2, generator=stream, dtype=torch.float64).tolist()
    whole = 0
    for i in range(count):
        height = width = side
        for area, ratio in zip(areas[i], ratios[i], strict=True):
            pixels = (0.08 + 0.92 * area) * side * side
            shape = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * ratio)
            h, w = round(math.sqrt(pixels / shape)), round(math.sqrt(pixels * shape))
            if 0 < w <= side and 0 < h <= side:
                height, width = h, w
                break
        top, left = (int(places[i][0] * (side - height + 1)), int(places[i][1] * (side - width + 1)))
        assert boxes[i].tolist() == [top, left, height, width]
        whole += (height, width) == (side, side)
    assert whole < count / 4


def test_boxes_are_distributed_as_torchvisions() -> None:
    side, count = 64, 4000
    ours = crop_boxes(count, side, draws(5)).double()
    transform, image = v2.RandomResizedCrop(side), torch.zeros(3, side, side)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = [transform.make_params([image]) for _ in range(count)]
    theirs = torch.tensor([[made_["top"], made_["left"], made_["height"], made_["width"]] for made_ in made]).double()
    for a, b in ((ours, theirs), (ours[:, 2:].prod(1), theirs[:, 2:].prod(1))):
        spread = (a.var(0) + b.var(0)).div(count).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() < 4 * spread).all()
        assert torch.allclose(a.std(0), b.std(0), rtol=0.07)


def test_boxes_fit_and_reach_the_edges() -> None:
    top, left, height, width = crop_boxes(3000, 12, draws()).T
    assert min(top.min(), left.min()) == 0
    assert min(height.min(), width.min()) > 0
    assert (top + height).max() == (left + width).max() == 12


def test_resized_crops_are_torchvisions_of_the_boxes() -> None:
    images = torch.randint(0, 256, (20, 3, 16, 16), generator=draws(), dtype=torch.uint8)
    made = random_resized_crop(images, draws(2))
    assert (made.shape, made.dtype) == (images.shape, torch.uint8)
    for image, found, box in zip(images, made, crop_boxes(20, 16, draws(2)).tolist(), strict=True):
        assert torch.equal(found, v2.functional.resized_crop(image, *box, [16, 16], antialias=True))


@pytest.mark.parametrize("kind", ["crop", "resized_crop"])
def test_an_augmentation_is_a_function_of_its_draws(kind: str) -> None:
    images = torch.randint(0, 256, (40, 3, 16, 16), generator=draws(), dtype=torch.uint8)
    before = images.clone()
    augment = augmentation(kind, 16)
    made = augment(images, draws(4))
    assert torch.equal(augment(images, draws(4)), made)
    assert not torch.equal(augment(images, draws(5)), made)
    assert torch.equal(images, before)
    if kind == "crop":  # the pad is an eighth of 16 pixels: at most two rows of zeros come in
        assert (made[:, :, 2:-2, 2:-2].float().mean((1, 2, 3)) > 60).all()
        assert (made[:, :, :3].flatten(2) == 0).all(2).sum() == 0


def test_other_kinds() -> None:
    assert augmentation("none", 16) is None
