"""Networks inside the wrappers of training code, and the names of tensors that these leave behind."""

import sys
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor, nn

from dualformer.model.network import DualFormer

T = TypeVar("T")

OWN_KEY = "stages.0.embed.proj.weight"
"""A tensor that every one of our networks has, by its name."""
RELEASED_KEY = "backbone.patch_embeds.0.proj.weight"
"""Likewise in the released checkpoints."""
_INSIDE = ("module", "_orig_mod", "_forward_module")
"""What DataParallel, DDP, averaged models and Fabric call the network inside, and what ``torch.compile`` does."""
_COMPILED = "_orig_mod."
_STATES = ("state_dict", "model_state_dict", "model")
"""Entries of a checkpoint in which other programs keep a network's tensors."""


def unwrap_network(model: nn.Module) -> DualFormer:
    """Returns the network inside of DataParallel, DDP, averaged and compiled modules.

    Errors: ``ValueError`` for a module that is none of ours, or whose weights are in shards.
    """
    found: Any = model
    while not isinstance(found, DualFormer):
        inside = next((found._modules[name] for name in _INSIDE if name in found._modules), None)
        if inside is None:
            raise ValueError(
                f"{type(model).__name__} is no DualFormer, nor a wrapper with one as its module: give the network that "
                "is inside it, with its own weights"
            )
        found = inside
    sharded = any(map(_is_in_shards, found.parameters()))
    if sharded or type(model).__name__ == "FullyShardedDataParallel":
        raise ValueError(
            f"the weights of this {type(model).__name__} are in shards: gather them in a plain network of the same "
            "config, by torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict=True"
        )
    return found


def _is_in_shards(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor. The module of those is slow to load, and has been loaded where there are any."""
    loaded = sys.modules.get("torch.distributed.tensor")
    return loaded is not None and isinstance(tensor, loaded.DTensor)


def plain_names(state: Mapping[str, T]) -> dict[str, T]:
    """Returns tensors under the names that they have without wrappers: ``module.``, ``_orig_mod.`` and others before.

    Of tensors that have such a prefix, those without it, as a counter of averages, are left out.
    """
    plain = {key.replace(_COMPILED, ""): tensor for key, tensor in state.items()}
    for anchor in (OWN_KEY, RELEASED_KEY):
        prefixes = [key.removesuffix(anchor) for key in plain if key.endswith(f".{anchor}")]
        if anchor not in plain and len(prefixes) == 1:
            [prefix] = prefixes
            return {key.removeprefix(prefix): tensor for key, tensor in plain.items() if key.startswith(prefix)}
    return plain


def find_state(content: object) -> object:
    """Returns the tensors in what a checkpoint holds, by plain names; what it holds itself where there are none."""
    if not isinstance(content, dict):
        return content
    states = [content[name] for name in _STATES if isinstance(content.get(name), dict)]
    state = states[0] if states else content
    return plain_names(state) if all(isinstance(key, str) for key in state) else state
