"""Two convolutions, the mean over the image, one linear layer."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn

from mat import Partition, partition_model
from mat.errors import InputError
from mat.experiments.models.closed_form import REMAINDER, product
from mat.experiments.models.closed_form_convolutions import Chain, Conv, Network
from mat.experiments.task_signature import Signature, check_signature
from mat.limits import Range, check_limits

GROUPS = 4  # modules per convolution


@dataclass(frozen=True)
class Settings:
    """How wide it is."""

    width: Annotated[int, Range(ge=4, le=1024)] = 8
    """Filters of either convolution, a multiple of 4."""

    def __post_init__(self) -> None:
        check_limits(self)
        if self.width % GROUPS:
            raise InputError(f"width must be a multiple of {GROUPS}, got {self.width}")


class TwoConvolutions(nn.Module):
    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(c, width, 3, padding=1) for c in (channels, width))
        self.classes = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.second(self.first(x).relu()).relu().mean((2, 3)))


def build(settings: Settings, signature: Signature) -> nn.Module:
    """The model for a task, its weights by torch's default generator; what it is not made for is refused."""
    check_signature("my_model", signature, "image_classification")
    return TwoConvolutions(signature.example["x"].shape[1], settings.width, signature.outputs)


def partition(settings: Settings, model: nn.Module) -> Partition:
    return partition_model(model, filter_groups=GROUPS)


def work(settings: Settings, signature: Signature, batch: int) -> Network:
    """Multiply-adds of a step: 9·C_in·C_out·H·W for a 3×3 convolution, and as many for either gradient."""
    _, channels, height, width = signature.example["x"].shape
    first, second = Conv.of(0, GROUPS), Conv.of(1, GROUPS)
    each = batch * 9 * settings.width * height * width
    classes = product(batch * settings.width * signature.outputs)
    modules = first.work(each * channels, images=True) | second.work(each * settings.width, images=False)
    return Network(Chain((first, second)), modules | {REMAINDER: classes})
