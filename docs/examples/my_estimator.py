"""The kernel of the first logit alone."""

from collections.abc import Iterator

from torch import Tensor

from mat import Estimator
from mat.kernels.estimators import ESTIMATORS


def first_logit(estimator: Estimator, logits: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    """One cotangent, shaped like the logits (n, k): row i of the kernel is the gradient of f_1(x_i)."""
    unit = logits.new_zeros(logits.shape)
    unit[:, 0] = 1
    yield unit


ESTIMATORS["first_logit"] = first_logit
