"""What decodes is named by versions, of PyAV and of the FFmpeg inside of it, whether PyAV tells the latter or not."""

import re

import av
import pytest

from dualformer.video.backend import decoder


def test_decoder_is_named_by_its_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch(rf"PyAV {re.escape(av.__version__)}, FFmpeg \S.*", decoder())
    monkeypatch.delattr(av, "ffmpeg_version_info", raising=False)
    assert re.fullmatch(r"PyAV \S+, FFmpeg libavcodec \d+\.\d+\.\d+", decoder())
