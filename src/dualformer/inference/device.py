"""Chooses the device, opens a network on it, and compiles it for it."""

from pathlib import Path

import torch

from dualformer.model.compiling import CompileMode, compile_network
from dualformer.model.network import DualFormer
from dualformer.weights.card import Card
from dualformer.weights.exported.exported_network import ExportedNetwork, load_exported
from dualformer.weights.open_network import Network, is_exported
from dualformer.weights.safetensors_file import load_weights


def choose_device(wanted: str | torch.device = "auto") -> torch.device:
    """``auto``: the GPU where CUDA (or ROCm) has one, else the CPU. Anything else: that device, as PyTorch names it.

    Raises ``ValueError`` for a name that PyTorch does not know or a device that this machine does not have.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
        torch.empty(0, device=device)
    # PyTorch says that it was built without a device by AssertionError, or by NotImplementedError, a RuntimeError.
    except (RuntimeError, AssertionError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"no device {str(wanted)!r} here ({first}); use auto or cpu") from error
    if device.type == "meta":
        raise ValueError("the device 'meta' computes nothing; use auto or cpu")
    return device


def open_on(
    weights: str | Path, wanted: str | torch.device = "auto", *, threads: int | None = None
) -> tuple[Network, Card, torch.device]:
    """Returns the network of weights or of an exported model, on its device, its card, and the device.

    A network of weights is folded: it is for inference only, and neither trained nor saved again.
    ``auto`` is the GPU where there is one and an exported model runs on it. ``threads``: of a CPU, for exported models;
    None: as many as PyTorch uses.
    Raises ``ValueError`` for a device that is not there or that an exported model does not run on, and for ``threads``
    of weights; otherwise what `open_network` does.
    """
    device = choose_device(wanted)  # a wrong name shows before anything is loaded
    if is_exported(weights):
        network = load_exported(weights, device=wanted if wanted == "auto" else device, threads=threads)
        return network, network.card, network.device
    if threads is not None:
        raise ValueError(f"threads is for exported models, and {weights} is none: call torch.set_num_threads")
    model, card = load_weights(weights, device=device)
    return model.fold(), card, device


def compile_on(network: Network, mode: CompileMode, *, device: torch.device) -> DualFormer:
    """Returns what computes in the place of ``network``, see `compile_network`.

    Raises ``ValueError`` for an exported model; otherwise what `compile_network` does.
    """
    if isinstance(network, ExportedNetwork):
        raise ValueError(f"{network.name} is an exported model, compiled by its own library: leave `compile_mode` out")
    return compile_network(network, mode, device=device)
