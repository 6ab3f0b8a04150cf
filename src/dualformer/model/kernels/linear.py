"""The linear layer, at the speed that the CPU has."""

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight

from dualformer.model.kernels.tracing import is_tracing

#: Rows from which on a product is worth the convolution's preparations, in float32 and in bfloat16.
_FEWEST_ROWS, _FEWEST_ROWS_OF_BFLOAT16 = 256, 1024


class Linear(nn.Linear):
    """`torch.nn.Linear`: same parameters, same numbers up to rounding, same gradients.

    In float32 on a CPU, PyTorch leaves matrix products to MKL and convolutions to oneDNN, which is the faster of the
    two on processors of AMD (docs/speed.md). So a linear layer on many tokens is computed as the convolution that it
    is: kernel 1×1, the tokens being pixels of channels-last images, of which no copy is made. In bfloat16 both are
    oneDNN's, but the linear layer first writes its bias to every token, and then reads it: without gradients it is a
    convolution there as well.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name that Linear gives it)
        """… in → … out."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear`, … in → … out, the faster way: see `Linear`."""
    images = _images(x, len(weight), biased=bias is not None)
    if images == 0:
        if x.device.type == "cpu" and product_dtype(x) == torch.bfloat16 and not is_tracing():
            # Without gradients PyTorch would copy the weight many times, for tokens that lie apart, and not the tokens.
            x = x.contiguous()
        return F.linear(x, weight, bias)
    out = F.conv2d(_pixels(x, images), weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def weight_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient out × in of a linear layer's weight, from its input … in and its output's gradient … out."""
    images = _images(x, grad.shape[-1], biased=False)
    if images == 0:
        return grad.flatten(0, -2).t() @ x.flatten(0, -2)
    size = (grad.shape[-1], x.shape[-1], 1, 1)
    return conv2d_weight(_pixels(x, images), size, _pixels(grad, images)).flatten(1)


def _pixels(x: Tensor, images: int) -> Tensor:
    """… C → images C 1 pixels, the same numbers in the same place."""
    return x.reshape(images, 1, -1, x.shape[-1]).permute(0, 3, 1, 2)


def _images(x: Tensor, out_features: int, *, biased: bool) -> int:
    """Into how many images the tokens … C are cut; 0 where a linear layer is computed as a linear layer."""
    if x.device.type != "cpu" or is_tracing():
        return 0
    rows = x.numel() // x.shape[-1]
    if min(x.shape[-1], out_features) < 16:
        return 0
    for_inference = biased and not torch.is_grad_enabled()
    if product_dtype(x) == torch.bfloat16 and for_inference and rows >= _FEWEST_ROWS_OF_BFLOAT16:
        return _even_cut(rows) if torch.backends.cpu.get_cpu_capability() == "AVX512" else 0
    if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu") or rows < _FEWEST_ROWS:
        return 0
    return _even_cut(rows) or (1 if torch.get_num_threads() > 1 else 0)


def product_dtype(x: Tensor) -> torch.dtype:
    """Returns what products of ``x`` on a CPU are computed in, under autocast too."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


@cache
def _even_cut(rows: int) -> int:
    """A divisor of ``rows`` from 16 to 64, or 0: PyTorch leaves 16 images and more to oneDNN on one thread too."""
    return next((images for images in range(16, 65) if rows % images == 0), 0)
