"""How many batches an epoch has."""

from __future__ import annotations

from dualformer.training.mixing import check_pairs


def count_batches(videos: int, *, batch_size: int, accumulate: int, repeats: int, mixes: bool, world: int) -> int:
    """Batches of an epoch, of all ``world`` processes together, in whole optimizer steps.

    Errors: ``ValueError`` for sizes that do not go together.
    """
    each = f" on each of {world} devices" if world > 1 else ""
    batches = videos * repeats // (batch_size * world)
    if batches < 1:
        raise ValueError(
            f"`batch_size={batch_size}`{each} is more than the {videos * repeats} clips there are to train on"
        )
    if batch_size * world % repeats:
        raise ValueError(f"`batch_size={batch_size}`{each} is not a multiple of `repeats={repeats}`")
    if mixes:
        check_pairs(batch_size, world, repeats=repeats)
    if accumulate > batches:
        raise ValueError(f"`accumulate={accumulate}` is more than the {batches} batches of an epoch")
    return batches - batches % accumulate
