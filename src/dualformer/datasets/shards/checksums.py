"""Compares shards with their checksums."""

import hashlib
from collections.abc import Callable, Mapping

from dualformer.datasets.manifest import Verdict
from dualformer.datasets.shards.read_shards import ShardLocation, load_index
from dualformer.datasets.shards.storage import read_chunks


def damaged_shards(at: ShardLocation, *, progress: Callable[[int, int], None] | None = None) -> dict[str, str]:
    """Reads all shards and returns the file names of those that are not as they were written, with the reason.

    ``progress`` is called with the number of shards read and their total. Raises as `read_shards` does.
    """
    shards = load_index(at).shards
    damaged: dict[str, str] = {}
    for done, shard in enumerate(shards, 1):
        digest = hashlib.sha256()
        for part in read_chunks(f"{at.url}/{shard.file}" if at.url else at.folder / shard.file):
            digest.update(part)
        if digest.hexdigest() != shard.sha256:
            damaged[shard.file] = "its checksum is not that of the shard that was written: copy it again"
        if progress is not None:
            progress(done, len(shards))
    return damaged


def mark_damaged(verdicts: list[Verdict], damaged: Mapping[str, str]) -> list[Verdict]:
    """Returns the verdicts with videos in damaged shards bad, even where they decode."""

    def judged(verdict: Verdict) -> Verdict:
        shard = verdict.path.parent.name
        if not verdict.ok or shard not in damaged:
            return verdict
        return Verdict(path=verdict.path, ok=False, reason=f"its shard is damaged: {damaged[shard]}")

    return [judged(verdict) for verdict in verdicts]
