"""What every verb that runs a network is told about computing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dualformer.model.compiling import CompileMode
    from dualformer.video.views import Precision


@dataclass(frozen=True, kw_only=True)
class Computing:
    """The part of a verb's options that `Recognizer.load` takes."""

    device: str = "auto"
    """auto (the GPU where there is one), cpu, cuda, cuda:1, …"""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Auto is float32, or what an exported model computes in. bfloat16 is faster where the processor computes in it."""
    compile: Literal["no", "default", "reduce-overhead", "max-autotune"] = "no"
    """Compile the network by torch.compile, in this mode: worth its minutes for many files on a GPU, where
    reduce-overhead uses CUDA graphs."""

    @property
    def chosen_precision(self) -> Precision | None:
        """None: the network's own."""
        return None if self.precision == "auto" else self.precision

    @property
    def compile_mode(self) -> CompileMode | None:
        return None if self.compile == "no" else self.compile
