"""What a model is called with."""

import pytest
import torch
from torch import nn

from mat import modular_ntk, partition_model
from mat.errors import InputError

IMAGES = torch.randn(2, 3, 4, 4)


class Lenient(nn.Module):
    """Takes any keyword."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 1)

    def forward(self, x=None, **further):
        if x is None:
            raise ValueError("nothing to do")
        return self.convolution(x).mean((2, 3))


def test_a_name_that_a_model_takes_among_further_keywords_is_said_where_it_then_fails():
    model = Lenient()
    partition = partition_model(model)
    for measure in (
        lambda: modular_ntk(model, partition, {"y": IMAGES}),
        lambda: partition_model(model, example={"y": IMAGES}),
    ):
        with pytest.raises(InputError, match=r"Lenient has no arguments called 'y'.*nothing to do; expected are x$"):
            measure()
    modular_ntk(model, partition, {"x": IMAGES, "y": IMAGES})  # which may be meant


def test_what_fails_by_names_that_a_model_has_is_its_own_error():
    model = Lenient()
    with pytest.raises(RuntimeError, match="channels"):
        modular_ntk(model, partition_model(model), {"x": IMAGES[:, :2]})
