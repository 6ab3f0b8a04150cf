"""``torch.compile`` for the network.

What is compiled is the way from the video to the features: it serves those who ask for logits, for features and for
token scores alike, and the names of the weights stay. On a GPU ``reduce-overhead`` is PyTorch's way to CUDA graphs;
what it gains there is not measured.
"""

from copy import copy
from typing import Literal

import torch

from dualformer.errors import DualFormerError
from dualformer.model.network import DualFormer

CompileMode = Literal["default", "reduce-overhead", "max-autotune"]
"""Of ``torch.compile``: quick to compile; CUDA graphs; tries many kernels, and takes many minutes to do so."""


class CompileError(DualFormerError):
    """PyTorch cannot compile here."""


def compile_network(model: DualFormer, mode: CompileMode = "default", *, device: torch.device) -> DualFormer:
    """One of the same weights that is compiled when it first sees clips of some number and size on ``device``.

    ``model`` stays as it is, for those who look inside: hooks do not see what a compiled network computes.
    Sizes stay numbers: with symbols in their place, the generator of C++ thinks for many minutes about their products.
    A compiled network runs whole maps: on a CPU it does without the tiles, which need less memory. Errors:
    `CompileError` where nothing can be compiled, as without a C++ compiler; it is found out at once by compiling a sum.
    """
    try:
        torch.compile(torch.add, mode=mode)(torch.ones(2, device=device), torch.ones(2, device=device))
    except RuntimeError as error:  # its own kinds of error are none of PyTorch's public names
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CompileError(f"torch.compile does not work here ({reason}): leave `compile` out") from error
    compiled = copy(model)
    compiled.forward_features = torch.compile(compiled.forward_features, mode=mode, dynamic=False)
    return compiled
