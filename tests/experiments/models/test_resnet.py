"""ResNet: torchvision's network, whatever its width and stem, with a closed form that follows its shortcuts."""

import pytest
import torch
from torchvision.models import resnet18, resnet34

from mat.backward.sparse import SparseBackward
from mat.errors import InputError
from mat.experiments.models import resnet
from mat.experiments.task_signature import Signature
from mat.flops.executed import executed_macs
from tests.cases import resnet_case


def signature(size=33, channels=3, outputs=7):
    return Signature("image_classification", {"x": torch.zeros(1, channels, size, size)}, outputs)


@pytest.mark.parametrize(("blocks", "theirs"), [((2, 2, 2, 2), resnet18), ((3, 4, 6, 3), resnet34)])
def test_it_is_torchvisions_network(blocks, theirs):
    ours, other = (resnet.build(resnet.Settings(blocks=blocks), signature()).eval(), theirs(num_classes=7).eval())
    assert type(ours) is type(other) and list(ours.state_dict()) == list(other.state_dict())
    other.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 33, 33)
    with torch.no_grad():
        assert torch.equal(ours(x), other(x))


def test_it_starts_as_torchvisions_does():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ours, other = resnet.build(resnet.Settings(), signature()), resnet18(num_classes=7)
    for (name, a), b in zip(ours.named_parameters(), other.parameters(), strict=True):
        spreads = [(t.std() if t.dim() > 1 else t.abs().max()).item() for t in (a, b)]
        assert spreads[0] == pytest.approx(spreads[1], rel=0.1), name


def test_a_small_stem_keeps_every_pixel_and_widths_double():
    model = resnet.build(resnet.Settings(stem="small", width=8), signature(32, channels=1)).eval()
    sizes = []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        stage.register_forward_hook(lambda module, inputs, out: sizes.append(tuple(out.shape[1:])))
    model(torch.randn(2, 1, 32, 32))
    assert sizes == [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert (model.conv1.kernel_size, model.conv1.stride, model.conv1.in_channels) == ((3, 3), (1, 1), 1)


@pytest.mark.parametrize("stem", ["imagenet", "small"])
@pytest.mark.parametrize("mode", ["exact", "detach"])
def test_executed_is_the_closed_form_with_two_blocks_a_stage_and_odd_sizes(stem, mode):
    """Few active modules, so that wholly inactive convolutions, and branches that end the backward pass, are many."""
    settings = resnet.Settings(blocks=(1, 2, 2, 1), stem=stem, width=2, filter_groups=2)
    made = Signature("image_classification", {"x": torch.zeros(1, 3, 37, 21)}, 5)
    model, x = resnet.build(settings, made), torch.randn(3, 3, 37, 21)
    partition = resnet.partition(settings, model)
    sparse, seen = SparseBackward(model, partition, mode), set()
    draws = torch.Generator().manual_seed(0)
    for share in (0, *(0.1, 0.2, 0.4, 0.6, 0.8) * 2, 1):
        chosen = torch.rand(len(partition.names), generator=draws) < share
        active = {name for name, on in zip(partition.names, chosen, strict=True) if on}
        sparse.set_active(active)
        macs, _ = executed_macs(lambda: model(x).logsumexp(-1).sum().backward())
        assert macs == resnet.work(settings, made, 3).step(active, mode)
        seen.add(macs)
    assert len(seen) > 8


def test_in_detach_a_gradient_goes_down_identities_and_active_shortcuts_only():
    """Of the four blocks the first has an identity, the others a convolution for a shortcut; all bodies are idle."""
    case = resnet_case()
    parts = case.family.work(case.settings, case.signature, 5)
    stem, shortcuts = ["conv0.filters0"], [f"conv{depth}.filters0" for depth in (5, 8, 11)]

    def cost(active):
        return parts.step(active, "detach")

    assert cost(stem) == cost([])
    assert cost(stem + shortcuts[:2]) == cost([])
    # the lowest shortcut needs its input's gradient now: of all channels, for its input is a sum
    below = parts[stem[0]].weight + parts[shortcuts[0]].input
    assert cost(stem + shortcuts) - cost(shortcuts) == below


def test_texts_are_refused():
    with pytest.raises(InputError, match="model resnet needs a task with the objective image_classification"):
        resnet.work(resnet.Settings(), Signature("masked_lm", {"input_ids": torch.zeros(1, 8)}, 10), 1)
