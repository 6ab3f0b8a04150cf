"""Digests of videos: a few bytes of each file's content, by which weights know the videos that they were trained on."""

import hashlib
from base64 import b64decode, b64encode
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from dualformer.datasets.shards.storage import RemoteFileSlice
from dualformer.remote_paths import RemotePath
from dualformer.video.container import VideoError
from dualformer.video.file_slices import Media, is_frame_folder, media_size
from dualformer.video.frame_patterns import frame_images
from dualformer.video.remote_video import RemoteFile, open_remote
from dualformer.video.video_segment import Footage, VideoSegment

_BYTES = 5
"""Of a digest: of a million videos, one in a million others has the digest of one of them."""
_SAMPLE = 16 * 1024
_THREADS = 16


def video_digest(media: Footage) -> bytes:
    """Returns a digest of a video that is the same for every copy, whatever its name and folder, and in shards.

    It is that of its size and of three samples of its bytes, at its quarters; of a folder of frames, of their number
    and the first, the middle and the last; of a segment also of its times. Errors: ``OSError``, `VideoError` and
    `StorageError` for what cannot be read.
    """
    digest = hashlib.sha256()
    if isinstance(media, VideoSegment):
        digest.update(f"{media.times} of ".encode())
        media = media.file
    if isinstance(media, RemotePath):
        media = open_remote(media)
    parts = [media]
    if is_frame_folder(media):
        frames = frame_images(media)
        digest.update(f"{len(frames)} frames ".encode())
        parts = [frames[0], frames[len(frames) // 2], frames[-1]]
    for part in parts:
        size = media_size(part)
        digest.update(f"{size} bytes ".encode())
        short = size <= 3 * _SAMPLE
        for start in (0,) if short else (size // 4, size // 2, size * 3 // 4):
            digest.update(_read(part, start, size if short else _SAMPLE))
    return digest.digest()[:_BYTES]


def _read(media: Media, start: int, size: int) -> bytes:
    if isinstance(media, RemoteFileSlice):  # by itself: neither the whole video nor its shard are fetched
        media = replace(media, shard=replace(media.shard, cache=None), offset=media.offset + start, size=size)
        start = 0
    if isinstance(media, RemoteFile):  # by itself, too
        return media.read_part(start, size)
    with media.open("rb") as file:
        file.seek(start)
        return file.read(size)


def video_digests(videos: Iterable[Footage]) -> list[bytes | None]:
    """Returns the digest of each video, None for a file that cannot be read. Raises `StorageError`."""

    def digest(media: Footage) -> bytes | None:
        try:
            return video_digest(media)
        except (OSError, VideoError):
            return None

    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(digest, videos))


def pack_digests(digests: Iterable[bytes | None]) -> str:
    """Returns distinct digests as text, sorted, so that the same videos give the same text in any order."""
    return b64encode(b"".join(sorted({digest for digest in digests if digest is not None}))).decode()


def unpack_digests(text: str) -> frozenset[bytes]:
    """Returns what `pack_digests` packed."""
    data = b64decode(text)
    return frozenset(data[start : start + _BYTES] for start in range(0, len(data), _BYTES))
