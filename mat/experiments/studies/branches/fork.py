"""Branches: copies of a model's weights at one moment, each trained apart; the model itself is never touched."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor, nn

from mat.backward.optimizers import adopt
from mat.backward.sparse import SparseBackward
from mat.experiments.tasks.base import Batch
from mat.partition.partition import Partition

Loss = Callable[[nn.Module, Batch], Tensor]


class Fork:
    """The weights of ``model`` as they are now, and training that begins from them as often as it is asked for.

    Gradients are exact: an inactive module costs no weight gradient and changes no other one. What does not train is
    not in the optimizer, so nothing moves it, weight decay and momentum included. Statistics of batch norm follow the
    batches in every branch, as they do in training.
    """

    def __init__(self, model: nn.Module, partition: Partition) -> None:
        self.model = copy.deepcopy(model)
        self.partition = partition
        self._start = {name: value.clone() for name, value in self.model.state_dict().items()}
        self._sparse = SparseBackward(self.model, partition, "exact")
        owned = {id(leaf) for name in partition.names for leaf in self._sparse.module_parameters(name)}
        self._remainder = [leaf for leaf in self._sparse.parameters() if id(leaf) not in owned]
        # parameters that are the remainder's alone: without gradients of their own, a backward pass is shorter
        whole = {id(parameter) for parameter in self.model.parameters()}
        self._apart = [leaf for leaf in self._remainder if id(leaf) in whole]

    def reset(self) -> None:
        """The weights and statistics of the beginning."""
        self.model.load_state_dict(self._start)

    def train(
        self,
        batches: Sequence[tuple[int, Batch]],
        modules: Collection[str],
        loss: Loss,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        *,
        remainder: bool,
        clip: float = 0.0,
        anneal: bool = False,
    ) -> bool:
        """Train ``modules``, and the remainder if asked, from the beginning, one step on each of ``batches``.

        Each batch comes with the seed of what is random in its step (dropout). ``loss`` (model, batch) is minimised by
        a new ``optimizer`` (over the model's parameters, of which only those that train are kept); ``clip``: largest
        norm of the gradient of what trains, 0 for none; ``anneal``: step i of n has 1 − i/n of the learning rate.
        Returns whether every loss was finite; it ends at one that is not. The generators are left as they were.
        """
        self.reset()
        self._sparse.set_active(modules)
        for leaf in self._apart:
            leaf.requires_grad_(remainder)
        leaves = [leaf for name in modules for leaf in self._sparse.module_parameters(name)]
        leaves += self._remainder if remainder else []
        stepper = self._stepper(optimizer(self.model), leaves)
        self.model.train()
        cuda = [p.device for p in self.model.parameters() if p.device.type == "cuda"][:1]
        with torch.random.fork_rng(cuda):
            rates = [group["lr"] for group in stepper.param_groups]
            for step, (seed, batch) in enumerate(batches):
                for group, rate in zip(stepper.param_groups, rates, strict=True):
                    group["lr"] = rate * (1 - step / len(batches)) if anneal else rate
                torch.manual_seed(seed)
                value = loss(self.model, batch)
                if not math.isfinite(value.item()):
                    return False
                if leaves and value.requires_grad:  # an expert may be sent no sample of a batch
                    for leaf in self._sparse.parameters():
                        leaf.grad = None
                    value.backward()
                    if clip:
                        nn.utils.clip_grad_norm_(leaves, clip)
                    stepper.step()
        return True

    def _stepper(self, optimizer: torch.optim.Optimizer, leaves: list[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer, over ``leaves`` alone; each stays in its group."""
        adopt((optimizer,), self.model, self.partition, self._sparse.leaves, {})
        kept = {id(leaf) for leaf in leaves}
        for group in optimizer.param_groups:
            group["params"] = [leaf for leaf in group["params"] if id(leaf) in kept]
        return optimizer
