"""Stages and the whole network (section 3.1, figure 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dualformer.model import checkpointing, clip_threads, tiles
from dualformer.model.attention import PyramidAttention, WindowAttention
from dualformer.model.block import SubBlock
from dualformer.model.config import Config, Size3, Stage
from dualformer.model.contract import Features, features_of, layer_numbers, no_weight_decay, wanted_stages
from dualformer.model.convolution import ConvolutionalStem, ConvolutionSubBlock
from dualformer.model.folding import fold_layers
from dualformer.model.heads import TemporalPyramid
from dualformer.model.kernels.dense_convolution import DenseConv3d
from dualformer.model.kernels.dispatch import computed_by
from dualformer.model.kernels.linear import Linear
from dualformer.model.position import PositionEncoding, PositionTable


class PatchEmbedding(nn.Module):
    """Cuts the map into patches and projects each to a token: patch embedding in stage 1, patch merging later."""

    def __init__(self, in_channels: int, channels: int, patch: Size3) -> None:
        super().__init__()
        self.proj = DenseConv3d(in_channels, channels, patch, stride=patch)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B T' H' W' C'; a last patch that sticks out of the map is filled with zeros."""
        sticking_out = [-length % step for length, step in zip(x.shape[2:], self.proj.kernel_size, strict=True)]
        if any(sticking_out):
            t, h, w = sticking_out
            x = F.pad(x, (0, w, 0, h, 0, t))
        return self.project(x)

    @computed_by(tiles.project_patches, when=tiles.usable_for_patches)
    def project(self, x: Tensor) -> Tensor:
        """B C T H W, which patches divide → B T' H' W' C'."""
        return self.norm(self.proj(x).permute(0, 2, 3, 4, 1))


class StageLayers(nn.Module):
    """A patch embedding and blocks of two sub-blocks or one; the PEG sits behind the first sub-block of all."""

    def __init__(
        self, stage: Stage, in_channels: int, map_size: Size3, *, config: Config, drop_paths: Iterator[float]
    ) -> None:
        super().__init__()
        channels, heads, ratio = stage.channels, stage.channels // config.head_dim, config.mlp_ratio

        def sub_block(kind: str, drop_path: float) -> nn.Module:
            if kind == "C":
                in_time = map_size[0] > 1
                return ConvolutionSubBlock(
                    channels, stage.convolution, ratio=ratio, in_time=in_time, drop_path=drop_path
                )
            attention = (
                WindowAttention(channels, heads, stage.window, relative=config.position == "relative")
                if kind == "L"
                else PyramidAttention(channels, heads, map_size, stage.scales)
            )
            return SubBlock(channels, attention, ratio, drop_path, norm_eps=config.norm_eps)

        self.embed = (
            PatchEmbedding(in_channels, channels, stage.patch)
            if stage.embedding == "patches"
            else ConvolutionalStem(in_channels, channels, stage.patch, in_time=max(map_size[0], stage.patch[0]) > 1)
        )
        self.table = PositionTable(stage.channels, map_size) if config.position == "absolute" else None
        self.blocks = nn.ModuleList(
            nn.ModuleList(sub_block(kind, next(drop_paths)) for kind in stage.kinds) for _ in range(stage.depth)
        )
        self.position = PositionEncoding(stage.channels, map_size) if config.position == "peg" else None
        self.grad_checkpointing = False

    def forward(self, x: Tensor) -> Tensor:
        """B C T H W → B T' H' W' C'."""
        x = self.make_tokens(x)
        if self.table is not None:
            x = self.table(x)
        return self.run_layers(x)

    @computed_by(checkpointing.run_stem, when=checkpointing.wanted_for_stem)
    def make_tokens(self, x: Tensor) -> Tensor:
        """B C T H W → B T' H' W' C', by patches or the stem."""
        return self.embed(x)

    @computed_by(tiles.run_layers, when=tiles.usable)
    @computed_by(checkpointing.run_layers, when=checkpointing.wanted)
    def run_layers(self, x: Tensor) -> Tensor:
        """B T H W C → B T H W C."""
        for layer in self.layers():
            x = layer(x)
        return x

    def layers(self) -> list[nn.Module]:
        """The sub-blocks of all blocks in their order, and the PEG behind the first."""
        layers = [sub_block for block in self.blocks for sub_block in block.children()]
        return layers if self.position is None else [layers[0], self.position, *layers[1:]]


class DualFormer(nn.Module):
    """The network: B 3 T H W → B classes.

    It takes any T, H and W of at least one pixel. Where a patch or a window does not fit the map, the map is padded so
    that no real token changes; where a pyramid's grid does not, the map is pooled adaptively, so that the priors stay
    as many. Memory grows linearly with N. Weights whose size follows the clip (`config.clip`) are resampled for others.
    """

    def __init__(self, config: Config, *, seed: int | None = None) -> None:
        super().__init__()
        self.config = config
        sub_blocks = sum(len(stage.kinds) * stage.depth for stage in config.stages)
        drop_paths = iter([config.drop_path * i / max(1, sub_blocks - 1) for i in range(sub_blocks)])
        widths = (3, *(stage.channels for stage in config.stages))
        self.stages = nn.ModuleList(
            StageLayers(stage, width, size, config=config, drop_paths=drop_paths)
            for stage, (width, _), size in zip(config.stages, pairwise(widths), config.map_sizes(), strict=True)
        )
        self.num_features = widths[-1]
        self.norm = nn.LayerNorm(self.num_features, eps=config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.head = _classifier(self.num_features, config.num_classes)
        self.temporal = TemporalPyramid(config.stages) if config.head == "temporal" else None
        self.folded = False
        """Whether `fold` has made it a network for inference only."""
        self.init_weights(seed)

    def init_weights(self, seed: int | None = None) -> None:
        """Fresh weights, the same for the same seed; also after ``to_empty`` of a model made on the ``meta`` device.

        Linear layers and position tables are drawn from a truncated normal (0.02), convolutions as PyTorch does. They
        are drawn on the CPU, so that every device gets the same. What a temporal head adds begins at zero.
        """
        generator = _generator(seed)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm | nn.BatchNorm3d):
                module.reset_parameters()
            elif isinstance(module, nn.Linear | nn.Conv3d):
                if isinstance(module, nn.Linear):
                    _draw(module.weight, generator, std=0.02)
                else:
                    _draw(module.weight, generator, bound=module.weight[0].numel() ** -0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            else:
                for table in module.parameters(recurse=False):
                    _draw(table, generator, std=0.02)
        if self.temporal is not None:
            nn.init.zeros_(self.temporal.conv.weight)

    def forward(self, video: Tensor) -> Tensor:
        """B 3 T H W → B classes (logits), or B C where the config has no classes."""
        return self.forward_head(self.forward_features(video))

    @computed_by(clip_threads.forward_features, when=clip_threads.usable)
    def forward_features(self, video: Tensor) -> Tensor:
        """B 3 T H W → B C T' H' W': the last stage's map after the final norm, with what a temporal head adds."""
        return self.forward_intermediates(video, indices=1)[0]

    @overload
    def forward_intermediates(
        self,
        video: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCTHW",
        intermediates_only: Literal[False] = False,
    ) -> tuple[Tensor, list[Tensor]]: ...

    @overload
    def forward_intermediates(
        self,
        video: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCTHW",
        *,
        intermediates_only: Literal[True],
    ) -> list[Tensor]: ...

    def forward_intermediates(
        self,
        video: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCTHW",
        intermediates_only: bool = False,
    ) -> tuple[Tensor, list[Tensor]] | list[Tensor]:
        """The final features B C T' H' W' (as `forward_features`) and the maps after the stages in ``indices``.

        ``indices`` numbers stages from 0 (negative ones from the end), an integer n means the last n, None all of them.
        ``norm`` applies the final norm to the last stage's map in the list. ``output_fmt`` is NCTHW (B C T' H' W') or
        NTHWC (B T' H' W' C) for the list. ``intermediates_only`` returns the list alone; with ``stop_early``, stages
        after the last one asked for do not run then. Errors: ``ValueError`` for a wrong index, format or video.
        """
        count = len(self.stages)
        wanted = wanted_stages(indices, count)
        if output_fmt not in ("NCTHW", "NTHWC"):
            raise ValueError(f"output_fmt must be NCTHW or NTHWC, not {output_fmt!r}")
        if stop_early and not intermediates_only:
            raise ValueError("stop_early leaves no final features to return: set intermediates_only as well")
        if video.dim() != 5 or video.shape[1] != 3 or 0 in video.shape[2:]:
            raise ValueError(f"a video is B 3 T H W (5 dimensions, 3 channels), not {tuple(video.shape)}")
        last = max(wanted) + 1 if stop_early else count
        maps: list[Tensor] = []
        for stage in self.stages[:last]:
            maps.append(stage(maps[-1].permute(0, 4, 1, 2, 3) if maps else video))
        final = self.norm(maps[-1]) if last == count and (norm or not intermediates_only) else maps[-1]
        stage_maps = list(maps)
        if norm and last == count:
            maps[-1] = final
        chosen = [maps[index] for index in wanted]
        if self.temporal is not None and not intermediates_only:
            final = self.temporal(stage_maps, final)
        if output_fmt == "NCTHW":
            chosen = [tokens.permute(0, 4, 1, 2, 3) for tokens in chosen]
        return chosen if intermediates_only else (final.permute(0, 4, 1, 2, 3), chosen)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """B C T' H' W' (after the final norm) → B classes: global average pooling, dropout, classifier.

        ``pre_logits`` stops before the classifier: B C.
        """
        pooled = self.dropout(features.mean(dim=(2, 3, 4)))
        return pooled if pre_logits else self.head(pooled)

    def step_scores(self, features: Tensor) -> Tensor:
        """B C T' H' W' (after the final norm) → B T' classes: the logits at every step in time, pooled over space.

        Their mean over time is what `forward_head` gives. A network with ``head="temporal"`` is trained for them.
        Errors: ``ValueError`` without a classifier.
        """
        if isinstance(self.head, nn.Identity):
            raise ValueError("a network without classes has no step scores: give it some with reset_classifier")
        return self.head(self.dropout(features.mean(dim=(3, 4)).transpose(1, 2)))

    def token_scores(self, features: Tensor) -> Tensor:
        """B C T' H' W' (after the final norm) → B T' H' W' classes: the classifier's logits at every token.

        A teacher's token scores are the targets of token labelling. Errors: ``ValueError`` without a classifier.
        """
        if isinstance(self.head, nn.Identity):
            raise ValueError("a network without classes has no token scores: give it some with reset_classifier")
        return self.head(features.permute(0, 2, 3, 4, 1))

    def get_classifier(self) -> nn.Module:
        """The last linear layer; an identity where the config has no classes."""
        return self.head

    def reset_classifier(self, num_classes: int, *, seed: int | None = None) -> None:
        """A new classifier for ``num_classes`` (0: none); everything else keeps its weights."""
        self.config = self.config.replace(num_classes=num_classes)
        head = _classifier(self.num_features, num_classes).to(self.norm.weight.device, self.norm.weight.dtype)
        if isinstance(head, nn.Linear):
            _draw(head.weight, _generator(seed), std=0.02)
            nn.init.zeros_(head.bias)
        self.head = head

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """In training, keeps only what enters each sub-block or stem and computes the rest again for the backward pass.

        Less memory, a third more computation, the same gradients.
        """
        for stage in self.stages.children():
            assert isinstance(stage, StageLayers)
            stage.grad_checkpointing = enable

    def fold(self) -> DualFormer:
        """Makes of it, in place, a network for inference only, which computes the same with fewer steps; returns it.

        BatchNorm goes into the convolution before it, by its running statistics, and the scale of attention into the
        weights of the queries. There is no way back: such a network refuses to be trained, and its weights, which are
        no longer those of its config, to be saved.
        """
        self.eval()
        if not self.folded:
            fold_layers(self)
            self.folded = True
        return self

    def train(self, mode: bool = True) -> DualFormer:
        """As of every module. Errors: ``ValueError`` for a folded network, which cannot be trained."""
        if mode and self.folded:
            raise ValueError("a folded network is for inference only: load its weights once more to train them")
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """Copies are not compiled (`compiling.compile_network`): what was compiled computes with these weights."""
        state = super().__getstate__()
        return {name: value for name, value in state.items() if name != "forward_features"}

    @property
    def feature_info(self) -> tuple[Features, ...]:
        """Channels and reduction of every stage's map."""
        return features_of(self.config)

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that should not decay: norms, biases, PEG, position tables."""
        return no_weight_decay(self)

    def layer_numbers(self) -> dict[str, int]:
        """Every parameter's depth by name, for layer-wise learning rates: 0 for the first patch embedding, one more for
        every block, the last number for the final norm and the classifier."""
        return layer_numbers(self)


def _classifier(features: int, num_classes: int) -> nn.Module:
    return Linear(features, num_classes) if num_classes else nn.Identity()


def _draw(weight: Tensor, generator: torch.Generator, *, std: float | None = None, bound: float | None = None) -> None:
    """Fills ``weight``, on whatever device, with numbers drawn on the CPU in float32."""
    if weight.is_meta:
        return
    drawn = torch.empty(weight.shape, device="cpu", dtype=torch.float32)
    if std is not None:
        nn.init.trunc_normal_(drawn, std=std, generator=generator)
    else:
        assert bound is not None
        nn.init.uniform_(drawn, -bound, bound, generator=generator)
    with torch.no_grad():
        weight.copy_(drawn)


def _generator(seed: int | None) -> torch.Generator:
    """Without a seed it is drawn from PyTorch's own generator, so that ``torch.manual_seed`` fixes the weights too."""
    drawn = int(torch.randint(2**62, (), device="cpu")) if seed is None else seed
    return torch.Generator().manual_seed(drawn)
