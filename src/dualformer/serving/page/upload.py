"""The box that takes a video: Gradio's, without the programs that it would run on strangers' files."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from gradio.data_classes import FileData


def upload_box(*, label: str, elem_id: str) -> gr.Video:
    """For a file or a recording without sound, which are handed on as they come.

    Where ``ffmpeg`` is installed, Gradio starts it on uploads to take their sound out, and ``ffprobe`` on what it
    shows: outside of the limits on reading.
    """
    box = gr.Video(
        label=label,
        sources=["upload", "webcam"],
        webcam_options=gr.WebcamOptions(mirror=False),  # left is to stay left
        include_audio=False,
        elem_id=elem_id,
    )
    # Set here and not in a class of our own: Gradio writes a stub file beside the source of every such class.
    box.preprocess = _path_of
    box.postprocess = _file_at
    return box


def _path_of(payload: FileData | None) -> str | None:
    return None if payload is None else payload.path


def _file_at(value: str | Path | None) -> FileData | None:
    return None if value is None else FileData(path=str(value), orig_name=Path(value).name)
