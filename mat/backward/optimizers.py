"""An optimizer built over whole parameters, made to train slices of them.

Where modules share a parameter, each slice has a leaf of its own (``mat.backward.leaves``). ``adopt`` puts these in the
place of the whole parameter, inside the optimizer that the user built: groups, their order and their options stay,
and state that exists is sliced. ``Adoption.close`` puts the whole parameters back.

``state_dict`` of an adopted optimizer keeps the layout of the plain one, so a checkpoint can be loaded before or
after adoption. Slices that trained equally often are saved as the whole parameter's state. Where they did not, the
parameter has no entry of its own; ``state["slices"]`` has it, as {number: {"dim:start:stop": state of the slice}},
which torch carries along. An optimizer that is never adopted begins such a parameter's state anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mat.backward.optimizer_state import Pieces, State, key_of, merge_state, saved_states, split_state
from mat.backward.sparse import refuse_optimizer
from mat.errors import InputError
from mat.partition.partition import Partition, Slice

SLICES, SLOW = "slices", "slow"


@dataclass(frozen=True)
class PlainGroup:
    """A group as the user built it: its parameters, their names if it has any, and the periods it is split by."""

    wholes: list[nn.Parameter]
    names: list[str] | None
    periods: tuple[int, ...]


class Adoption:
    """One optimizer that trains leaves in place of whole parameters, until ``close``.

    ``pieces``: the slices of every parameter of it that is cut. ``states``: their states. ``periods``: leaves
    that train every k-th step only; they move to a group of their own right after the one they were in, whose rate
    is k times that group's at every step, whatever a scheduler does to it.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        pieces: Mapping[nn.Parameter, Pieces],
        periods: Mapping[nn.Parameter, int],
        states: Mapping[nn.Parameter, State],
    ) -> None:
        self.optimizer, self.pieces, self.periods = optimizer, pieces, periods
        self.layout: list[PlainGroup] = []
        groups = []
        for group in optimizer.param_groups:
            wholes, names = list(group["params"]), group.get("param_names")
            slow = group.pop(SLOW, {})  # here if a multirate checkpoint was loaded before adoption
            found = sorted({k for leaf in self._leaves(wholes) if (k := periods.get(leaf, 1)) > 1})
            plain = PlainGroup(wholes, None if names is None else list(names), tuple(found))
            self.layout.append(plain)
            options = [slow.get(k, {**group, "lr": k * group["lr"]}) for k in found]
            group.update(self._parameters(plain, 1))
            groups += [group, *({**own, **self._parameters(plain, k)} for k, own in zip(found, options, strict=True))]
        optimizer.param_groups[:] = groups
        state: dict[Any, Any] = optimizer.state
        for key in (*pieces, SLICES):
            state.pop(key, None)
        state.update(states)
        self._hooks = [
            optimizer.register_state_dict_post_hook(self._pack),
            optimizer.register_load_state_dict_pre_hook(self._unpack),
        ]
        if any(plain.periods for plain in self.layout):
            self._hooks.append(optimizer.register_step_pre_hook(self._keep_rates))

    def close(self) -> None:
        """Whole parameters in their groups again. Their state is merged from the slices'; where a slice has none,
        or their steps differ, that parameter starts without state."""
        for hook in self._hooks:
            hook.remove()
        found = list(self._by_plain_group(self.optimizer.param_groups))
        for plain, group, _ in found:
            group.update(_own(plain, plain.wholes))
        self.optimizer.param_groups[:] = [group for _, group, _ in found]
        for whole, own in self.pieces.items():
            merged = self._merge(whole, [self.optimizer.state.pop(leaf, {}) for _, leaf in own])
            if merged:
                self.optimizer.state[whole] = merged

    def _leaves(self, wholes: Sequence[nn.Parameter]) -> list[nn.Parameter]:
        return [leaf for whole in wholes for leaf in self._of(whole)]

    def _of(self, whole: nn.Parameter) -> list[nn.Parameter]:
        return [leaf for _, leaf in self.pieces[whole]] if whole in self.pieces else [whole]

    def _parameters(self, plain: PlainGroup, period: int) -> dict[str, list]:
        """The leaves of a group that train with this period, and their names."""
        chosen = [leaf for leaf in self._leaves(plain.wholes) if self.periods.get(leaf, 1) == period]
        if plain.names is None:
            return {"params": chosen}
        names = {}
        for name, whole in zip(plain.names, plain.wholes, strict=True):
            for piece, leaf in self.pieces.get(whole, [(None, whole)]):
                names[leaf] = name if piece is None else f"{name}[{piece.start}:{piece.stop}]"
        return {"params": chosen, "param_names": [names[leaf] for leaf in chosen]}

    def _merge(self, whole: nn.Parameter, states: list[State]) -> State | None:
        if isinstance(self.optimizer, torch.optim.Adafactor):
            return None  # its means are over one slice's rows and columns and are not those of the whole
        return merge_state(states, whole, self.pieces[whole])

    def _keep_rates(self, optimizer: Optimizer, args: tuple, kwargs: dict) -> None:
        for plain, fast, slow in self._by_plain_group(optimizer.param_groups):
            for k, group in zip(plain.periods, slow, strict=True):
                group["lr"] = k * fast["lr"]

    def _pack(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        """The state in the plain optimizer's layout; called by ``optimizer.state_dict()``."""
        numbers = {
            leaf: number
            for packed, group in zip(state_dict["param_groups"], optimizer.param_groups, strict=True)
            for number, leaf in zip(packed["params"], group["params"], strict=True)
        }
        old = state_dict["state"]
        state: dict[Any, Any] = {key: value for key, value in old.items() if key not in numbers.values()}
        slices = {}
        groups, count = [], 0
        for plain, fast, slow in self._by_plain_group(state_dict["param_groups"]):
            group = {**_options(fast), **_own(plain, range(count, count + len(plain.wholes)))}
            if plain.periods:
                group[SLOW] = {k: _options(own) for k, own in zip(plain.periods, slow, strict=True)}
            for number, whole in enumerate(plain.wholes, count):
                states = [old.get(numbers[leaf], {}) for leaf in self._of(whole)]
                entry = self._merge(whole, states) if whole in self.pieces else states[0]
                if entry:
                    state[number] = entry
                elif any(states):
                    own = zip(self.pieces[whole], states, strict=True)
                    slices[number] = {key_of(piece): found for (piece, _), found in own if found}
            groups.append(group)
            count += len(plain.wholes)
        if slices:
            state[SLICES] = slices
        return {**state_dict, "state": state, "param_groups": groups}

    def _unpack(self, optimizer: Optimizer, state_dict: dict[str, Any]) -> dict[str, Any]:
        """A plain layout's state, leaf by leaf; called by ``optimizer.load_state_dict()``."""
        layout = self._whole_layout()
        expected = [len(plain.wholes) for plain in layout]
        got = [len(group["params"]) for group in state_dict["param_groups"]]
        if got != expected:
            raise InputError(
                f"the state has groups of {got} parameters, this optimizer has {expected} whole parameters; "
                "load the state of an optimizer that was built in the same way"
            )
        old, state, groups, count = dict(state_dict["state"]), {}, [], 0
        slices = old.pop(SLICES, {})
        for plain, saved in zip(layout, state_dict["param_groups"], strict=True):
            options, slow = _options(saved), saved.get(SLOW, {})
            numbers: dict[nn.Parameter, int] = {}
            for k in (1, *plain.periods):
                own = options if k == 1 else slow.get(k, {**options, "lr": k * options["lr"]})
                found = self._parameters(plain, k)
                numbers.update({leaf: count + i for i, leaf in enumerate(found["params"])})
                count += len(found["params"])
                groups.append({**own, **found, "params": [numbers[leaf] for leaf in found["params"]]})
            for number, whole in zip(saved["params"], plain.wholes, strict=True):
                entry, own = old.pop(number, {}), self.pieces.get(whole)
                parts = [entry] if own is None else _states(entry, slices.get(number), whole, own)
                for leaf, part in zip(self._of(whole), parts, strict=True):
                    if part:
                        state[numbers[leaf]] = part
        return {**state_dict, "state": {**old, **state}, "param_groups": groups}

    def _whole_layout(self) -> list[PlainGroup]:
        """With groups that ``add_param_group`` appended after adoption; they are nobody's slices."""
        later = self.optimizer.param_groups[sum(1 + len(plain.periods) for plain in self.layout) :]
        return [*self.layout, *(PlainGroup(list(g["params"]), g.get("param_names"), ()) for g in later)]

    def _by_plain_group(self, groups: Sequence[dict]) -> Iterator[tuple[PlainGroup, dict, list[dict]]]:
        """Of an adopted optimizer's ``groups``: what was one group, with its own and those split from it."""
        rest = iter(groups)
        for plain in self._whole_layout():
            yield plain, next(rest), [next(rest) for _ in plain.periods]


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ("params", "param_names", SLOW)}


def _own(plain: PlainGroup, parameters: Iterable[Any]) -> dict[str, list]:
    names = {} if plain.names is None else {"param_names": list(plain.names)}
    return {"params": list(parameters), **names}


def adopt(
    optimizers: Sequence[Optimizer],
    model: nn.Module,
    partition: Partition,
    leaves: Mapping[Slice, nn.Parameter],
    periods: Mapping[nn.Parameter, int],
) -> list[Adoption]:
    """Let ``optimizers``, built over ``model``'s parameters, train ``leaves`` in their place.

    Parameters of other models are left alone, and so are parameters of the model that no optimizer holds, which
    do not train. Raises InputError, and changes nothing, where something would not train as it is selected: a
    module none of whose parameters is in an optimizer, a parameter that is held twice, an optimizer that holds
    slices already, LBFGS and SparseAdam, or a learning-rate scheduler made before a group must be split.
    """
    parameters = dict(model.named_parameters())
    pieces: dict[nn.Parameter, Pieces] = {}
    for piece, leaf in sorted(leaves.items(), key=lambda item: item[0]):
        if not partition.is_whole(piece):
            pieces.setdefault(parameters[piece.parameter], []).append((piece, leaf))
    optimizers = [_unwrapped(optimizer) for optimizer in optimizers]
    for optimizer in optimizers:
        if not isinstance(optimizer, Optimizer):
            raise InputError(f"expected a torch.optim optimizer, got {type(optimizer).__name__}")
        refuse_optimizer(optimizer)
    _check_held(optimizers, parameters, partition)
    for optimizer in optimizers:
        _check_scheduler(optimizer, pieces, periods)
    cut = [{whole: pieces[whole] for whole in _held(o) if whole in pieces} for o in optimizers]
    states = [_split(optimizer, own) for optimizer, own in zip(optimizers, cut, strict=True)]
    return [Adoption(o, own, periods, parts) for o, own, parts in zip(optimizers, cut, states, strict=True)]


def _split(optimizer: Optimizer, pieces: Mapping[nn.Parameter, Pieces]) -> dict[nn.Parameter, State]:
    """The state of every slice that has one, from the optimizer's own or from what a checkpoint left with it."""
    whole_state: dict[Any, Any] = optimizer.state
    slices, found = whole_state.get(SLICES, {}), {}
    placed = ((group, whole) for group in optimizer.param_groups for whole in group["params"])
    for number, (group, whole) in enumerate(placed):
        if whole in pieces:
            carried = slices.get(number)
            states = _states(optimizer.state.get(whole, {}), carried, whole, pieces[whole])
            for (_, leaf), state in zip(pieces[whole], states, strict=True):
                if carried is not None:
                    state = {name: _loaded(name, value, leaf, group) for name, value in state.items()}
                if state:
                    found[leaf] = state
    return found


def _states(state: State, saved: Mapping[str, State] | None, whole: nn.Parameter, pieces: Pieces) -> list[State]:
    return split_state(state, whole, pieces) if saved is None else saved_states(saved, pieces)


def _loaded(name: str, value: Any, leaf: Tensor, group: Mapping[str, Any]) -> Any:
    """``value`` as ``Optimizer.load_state_dict`` casts it, which slices that it carries along do not pass through."""
    if not isinstance(value, Tensor):
        return value
    if name != "step":
        return value.to(device=leaf.device, dtype=leaf.dtype)
    return value.to(leaf.device, torch.float32) if group.get("capturable") or group.get("fused") else value


def _unwrapped(optimizer: Optimizer) -> Optimizer:
    """The torch optimizer itself: accelerate wraps it in one that has no hooks."""
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


def _held(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _check_held(optimizers: Sequence[Optimizer], parameters: Mapping[str, nn.Parameter], partition: Partition) -> None:
    held = Counter(parameter for optimizer in optimizers for parameter in _held(optimizer))
    names = {parameter: name for name, parameter in parameters.items()}
    twice = sorted(names[p] for p, count in held.items() if count > 1 and p in names)
    if twice:
        raise InputError(f"{twice} would be updated twice in one step; give each parameter to one group once")
    storages = {p.untyped_storage().data_ptr(): name for name, p in parameters.items() if p.numel()}
    for parameter in held:
        name = storages.get(parameter.untyped_storage().data_ptr())
        if parameter not in names and parameter.numel() and name is not None:
            raise InputError(
                f"the optimizer already holds slices of {name!r}: it was adopted before, or built from slices; "
                "build it over model.parameters() and adopt it once"
            )
    for module in partition.modules:
        if not any(parameters[piece.parameter] in held for piece in module.slices):
            raise InputError(
                f"no parameter of module {module.name!r} is in the optimizer, so it would never train although "
                "it is selected; give the optimizer all of model.parameters(), adopt all optimizers in one call, or "
                "set requires_grad_(False) before partitioning to freeze it"
            )


def _check_scheduler(
    optimizer: Optimizer, pieces: Mapping[nn.Parameter, Pieces], periods: Mapping[nn.Parameter, int]
) -> None:
    for group in optimizer.param_groups:
        leaves = [leaf for whole in group["params"] for _, leaf in pieces.get(whole, [(None, whole)])]
        if "initial_lr" in group and any(periods.get(leaf, 1) > 1 for leaf in leaves):
            raise InputError(
                "modules that train every k-th step need a group of their own, which a learning-rate scheduler made "
                "before does not know; adopt the optimizer first and make the scheduler afterwards"
            )
