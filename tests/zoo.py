"""Tiny unmodified models of every family, in float64, and the naive reference for their kernels."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mat.kernels import ntk
from mat.partition.discovery import partition_model
from mat.partition.partition import Module, Partition, Slice
from tests.cases import logits


@dataclass
class Animal:
    """A model with a batch of inputs, and the parameters whose use no rule follows."""

    model: nn.Module
    inputs: dict[str, Tensor]
    slow: frozenset[str] = frozenset()

    @property
    def n(self) -> int:
        return len(next(iter(self.inputs.values())))


def modular_ntk(
    model: nn.Module, partition: Partition, inputs: dict[str, Tensor], estimator="sum_of_logits", **options
):
    """Kernels by the estimator of one plain cotangent, unless another is asked for."""
    return ntk.modular_ntk(model, partition, inputs, estimator, **options)


def by_parameter(model: nn.Module) -> Partition:
    """Every parameter a module of its own, of the same name."""
    shapes = {name: (*p.shape, 1) for name, p in model.named_parameters() if p.requires_grad}
    return Partition.of(
        model,
        [Module(name, "layer", i, (Slice(name, 0, 0, shape[0]),)) for i, (name, shape) in enumerate(shapes.items())],
    )


def naive_rows(model: nn.Module, inputs: dict[str, Tensor], cotangents: Callable[[Tensor, int], list[Tensor]]):
    """parameter -> (n, cotangents, *shape): one backward pass per sample and cotangent, in evaluation mode.

    ``cotangents(logits of sample i, i)`` gives vectors shaped like these logits (1, …).
    """
    model.eval()
    named = dict(model.named_parameters())
    n = len(next(iter(inputs.values())))
    rows: dict[str, list[Tensor]] = {name: [] for name in named}
    for i in range(n):
        output = logits(model, {k: v[i : i + 1] for k, v in inputs.items()})
        for v in cotangents(output.detach(), i):
            gradients = torch.autograd.grad((output * v).sum(), named.values(), retain_graph=True, allow_unused=True)
            for (name, p), g in zip(named.items(), gradients, strict=True):
                rows[name].append(torch.zeros_like(p) if g is None else g.to_dense())
    return {name: torch.stack(found).reshape(n, len(found) // n, *named[name].shape) for name, found in rows.items()}


def mean_logit(out: Tensor, i: int) -> list[Tensor]:
    """The cotangent of ``sum_of_logits``."""
    return [torch.full_like(out, out.numel() ** -0.5)]


def kernel_of(rows: Tensor) -> Tensor:
    """J Jᵀ of per-sample gradients (n, …)."""
    rows = rows.flatten(1) if rows.numel() else rows.new_zeros(len(rows), 0)
    return rows @ rows.T


def of_slices(rows: dict[str, Tensor], slices) -> Tensor:
    """``naive_rows`` of some slices side by side, (n, cotangents, numel)."""
    return torch.cat([piece.of(rows[piece.parameter], 2).flatten(2) for piece in slices], 2)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """No parameter or running statistic keeps a value at which an error could hide."""
    draws = torch.Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.05 + 0.3 * torch.randn(parameter.shape, generator=draws).double())
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
                module.running_mean.copy_(torch.rand(module.running_mean.shape, generator=draws) - 0.5)
                module.running_var.copy_(torch.rand(module.running_var.shape, generator=draws) + 0.5)
    return model


# Hugging Face's names of the same sizes
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
T5 = {"vocab_size": 13, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_heads": 2}
POSITION_BIASES = frozenset(
    f"{part}.block.0.layer.0.SelfAttention.relative_attention_bias.weight" for part in ("encoder", "decoder")
)


def _ids(n: int = 3, length: int = 5, words: int = 13) -> Tensor:
    return torch.randint(1, words, (n, length), generator=torch.Generator().manual_seed(1))


def _images(n: int = 3, size: int = 16, channels: int = 3) -> Tensor:
    return torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(1)).double()


def bert() -> Animal:
    from transformers import BertConfig, BertForMaskedLM

    return Animal(
        BertForMaskedLM(BertConfig(vocab_size=13, **BERT)),
        {"input_ids": _ids(), "attention_mask": torch.ones(3, 5).long()},
    )


def roberta() -> Animal:
    from transformers import RobertaConfig, RobertaForSequenceClassification

    config = RobertaConfig(vocab_size=13, max_position_embeddings=20, **BERT)
    return Animal(RobertaForSequenceClassification(config), {"input_ids": _ids()})


def distilbert() -> Animal:
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    config = DistilBertConfig(vocab_size=13, dim=8, n_layers=1, n_heads=2, hidden_dim=12)
    return Animal(DistilBertForSequenceClassification(config), {"input_ids": _ids()})


def gpt2() -> Animal:
    from transformers import GPT2Config, GPT2LMHeadModel

    return Animal(
        GPT2LMHeadModel(GPT2Config(vocab_size=13, n_embd=8, n_layer=2, n_head=2, n_positions=8, use_cache=False)),
        {"input_ids": _ids()},
    )


def t5() -> Animal:
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(T5Config(num_layers=1, feed_forward_proj="gated-gelu", **T5))
    return Animal(model, {"input_ids": _ids(), "decoder_input_ids": _ids(length=4)}, POSITION_BIASES)


def switch() -> Animal:
    from transformers import SwitchTransformersConfig, SwitchTransformersForConditionalGeneration

    layers = {"num_layers": 2, "num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
    config = SwitchTransformersConfig(num_experts=3, expert_capacity=64, **layers, **T5)
    model = SwitchTransformersForConditionalGeneration(config)
    for module in model.modules():
        if hasattr(module, "jitter_noise"):  # a router: its configuration knows no float64
            module.dtype = torch.float64
    return Animal(model, {"input_ids": _ids(4, 7), "decoder_input_ids": _ids(4, 6)}, POSITION_BIASES)


def llama() -> Animal:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {**BERT, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=13, use_cache=False, **sizes)
    return Animal(LlamaForCausalLM(config), {"input_ids": _ids()})


def hf_vit() -> Animal:
    from transformers import ViTConfig, ViTForImageClassification

    return Animal(
        ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **BERT)), {"pixel_values": _images()}
    )


def vit() -> Animal:
    from torchvision.models import VisionTransformer

    return Animal(VisionTransformer(16, 8, 2, 2, 8, 12, num_classes=4), {"x": _images()})


def swin() -> Animal:
    from torchvision.models import SwinTransformer

    model = SwinTransformer([2, 2], 8, [2, 1], [2, 2], [4, 4], num_classes=4)
    tables = [name for name, _ in model.named_parameters() if "relative_position_bias_table" in name]
    return Animal(model, {"x": _images(2, 16)}, frozenset(tables))


def resnet() -> Animal:
    from torchvision.models.resnet import BasicBlock, ResNet

    model = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)
    model.layer3, model.layer4, model.fc = nn.Identity(), nn.Identity(), nn.Linear(128, 4)
    return Animal(model, {"x": _images()})


def densenet() -> Animal:
    from torchvision.models import DenseNet

    return Animal(DenseNet(4, (2, 2), 8, 2, num_classes=4), {"x": _images()})


def vgg() -> Animal:
    from torchvision.models.vgg import VGG, make_layers

    with torch.device("meta"):
        model = VGG(nn.Sequential(), num_classes=4, init_weights=False)
    model.features = make_layers([4, "M", 6, "M"])
    model.avgpool, model.classifier = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 4)
    return Animal(model, {"x": _images(size=8)})


ZOO: dict[str, Callable[[], Animal]] = {
    f.__name__: f
    for f in (bert, roberta, distilbert, gpt2, t5, switch, llama, hf_vit, vit, swin, resnet, densenet, vgg)
}


def quietly(model: nn.Module, **options) -> Partition:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return partition_model(model, **options)


def animal(name: str) -> Animal:
    """A copy of the one that is made of this name."""
    return copy.deepcopy(_made(name))


@functools.cache
def _made(name: str) -> Animal:
    with torch.random.fork_rng():
        # torch.manual_seed would record a stack trace each time
        torch.default_generator.manual_seed(0)
        made = ZOO[name]()
        randomise(made.model)
    return made
