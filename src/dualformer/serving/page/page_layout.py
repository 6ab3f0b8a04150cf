"""The components of the page, its theme, and what its buttons do."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import gradio as gr
from gradio import themes
from gradio.data_classes import FileData

from dualformer.errors import DualFormerError
from dualformer.inference.timeline import Timeline
from dualformer.inference.timeline_drawing import draw_timeline
from dualformer.report.segment_editor import EditorVideo, render_segment_editor
from dualformer.serving.page import page_text
from dualformer.serving.page.examples import are_known
from dualformer.serving.service import Service

_BARS = 5

Updates = dict[Any, Any]
"""A value or an update for each component that changes."""


def make_theme() -> themes.Base:
    """Returns Gradio's default theme with system fonts, which have names alone, so that none is loaded."""
    return themes.Default(
        primary_hue=themes.colors.blue,
        neutral_hue=themes.colors.slate,
        font=("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"),
        font_mono=("ui-monospace", "SFMono-Regular", "Menlo", "Liberation Mono", "monospace"),
    )


def make_page(service: Service, *, folder: Path, examples: dict[str, Path], trains: bool = False) -> gr.Blocks:
    """Returns the page as Gradio's blocks. Files for visitors are written into ``folder``; ``trains``: it names the
    page that trains."""
    return _Page(service, folder, examples, trains).blocks


class _Page:
    def __init__(self, service: Service, folder: Path, examples: dict[str, Path], trains: bool) -> None:
        self._service, self._folder, self._trains = service, folder, trains
        with gr.Blocks(title=page_text.TITLE, analytics_enabled=False) as self.blocks:
            self._lay_out(examples)
        most = service.limits.concurrency
        self.blocks.queue(api_open=False, max_size=2 * most, default_concurrency_limit=most)

    def _lay_out(self, examples: dict[str, Path]) -> None:
        labels = self._service.recognizer.labels
        gr.HTML(page_text.heading_html(self._service, trains=self._trains), elem_id="heading")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                self._video = _upload_box()
                self._button = gr.Button("Recognise", variant="primary", elem_id="recognise")
                chosen = gr.Dataset(
                    components=["textbox"],
                    samples=[[name] for name in examples],
                    type="index",
                    label=page_text.examples_label(are_known(labels)),
                    elem_id="examples",
                )
            with gr.Column(scale=6, min_width=300):
                self._status = gr.HTML(page_text.note_html(page_text.model_name(self._service)), elem_id="status")
                self._labels = gr.Label(label="Labels", num_top_classes=_BARS, visible=False, elem_id="labels")
                self._note = gr.HTML(visible=False, elem_id="note")
                self._class = gr.Dropdown(
                    list(labels), label="Grad-CAM: what speaks for the class", visible=False, elem_id="class"
                )
                self._clip = gr.HTML(visible=False, elem_id="clip")
        self._timeline = gr.HTML(visible=False, elem_id="timeline")

        answers = [self._status, self._labels, self._note, self._class, self._clip, self._timeline]
        paths = list(map(str, examples.values()))
        private: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        chosen.click(lambda index: paths[index], [chosen], [self._video], **private)
        # One event for both, of which the last one counts: two would race for the components.
        gr.on(
            [self._video.change, self._button.click],
            self._recognise,
            [self._video],
            answers,
            trigger_mode="always_last",
            **private,
        )
        inputs, outputs = [self._video, self._class], [self._note, self._clip]
        self._class.input(self._explain, inputs, outputs, trigger_mode="always_last", **private)

    async def _recognise(self, video: FileData | None) -> AsyncIterator[Updates]:
        """Yields the labels, the timeline and the explanation of the most likely class, each as soon as it is there.

        Every step yields the whole page, for a browser that gets several steps at once keeps only the last one.
        """
        if video is None:
            yield self._blank() | {self._status: page_text.note_html(page_text.CHOOSE)}
            return
        shown = self._blank() | {self._status: page_text.working_html("Reading the video and asking the network")}
        yield shown
        path, begun = Path(video.path), time.perf_counter()
        try:
            prediction = await self._service.predict(path)
        except DualFormerError as error:
            yield self._blank() | {self._status: page_text.error_html(str(error))}
            return
        shown = shown | {
            self._status: page_text.result_html(self._service, prediction, time.perf_counter() - begun),
            self._labels: gr.Label(dict(prediction.top(_BARS)), visible=True),
        }
        yield shown
        shown = shown | {self._timeline: await self._timeline_of(path, video.orig_name or path.name)}
        yield shown
        if page_text.is_exported(self._service):
            yield shown | {self._note: gr.HTML(page_text.note_html(page_text.NO_EXPLANATION), visible=True)}
            return
        async for explained in self._explain(video, prediction.label):
            shown = shown | explained
            yield shown
        choices = [(f"{label} ({p:.1%})", label) for label, p in prediction.top(len(prediction.labels))]
        yield shown | {self._class: gr.Dropdown(choices, value=prediction.label, visible=True)}

    async def _timeline_of(self, path: Path, name: str) -> gr.HTML:
        """Returns the timeline; hidden for a video that is no longer than a clip. ``name``: the visitor's for it."""
        try:
            timeline = await self._service.timeline(path)
        except DualFormerError as error:
            return gr.HTML(page_text.error_html(str(error)), visible=True)
        if timeline.clips == 1:
            return gr.HTML(visible=False)
        with TemporaryDirectory(dir=self._folder) as folder:
            picture = Path(folder) / "timeline.png"
            await asyncio.to_thread(draw_timeline, picture, timeline)
            editor = self._editor_of(timeline, path, name)
            return gr.HTML(page_text.timeline_html(timeline, editor, picture.read_bytes()), visible=True)

    def _editor_of(self, timeline: Timeline, path: Path, name: str) -> str:
        """Returns the page on which a timeline is corrected. Its CSV names the video as the visitor does."""
        film = EditorVideo(
            path=Path(name),
            url=f"gradio_api/file={quote(path.as_posix())}",
            seconds=timeline.seconds,
            predicted=timeline.segments,
            fps=timeline.frames / timeline.seconds if timeline.frames > 1 else None,
            error=timeline.error,
        )
        return render_segment_editor([film], timeline.labels, folder=self._folder, title=name)

    async def _explain(self, video: FileData | None, label: str) -> AsyncIterator[Updates]:
        """Yields the Grad-CAM clip of a class."""
        if video is None:
            return
        hidden = gr.HTML(visible=False)
        working = page_text.working_html(f"Looking for what speaks for {label}")
        yield {self._note: gr.HTML(working, visible=True), self._clip: hidden}
        with TemporaryDirectory(dir=self._folder) as folder:
            try:
                clip = await self._service.explain(Path(video.path), label, Path(folder))
            except DualFormerError as error:
                yield {self._note: gr.HTML(page_text.error_html(str(error)), visible=True), self._clip: hidden}
                return
            film = page_text.film_html(clip.read_bytes(), label)
        yield {self._note: hidden, self._clip: gr.HTML(film, visible=True)}

    def _blank(self) -> Updates:
        hidden = (self._labels, self._note, self._class, self._clip, self._timeline)
        return {self._status: "", **{component: gr.update(visible=False) for component in hidden}}


def _upload_box() -> gr.Video:
    """Returns the box for a video file or a recording without sound, which it passes on unchanged, with its name.

    Where ``ffmpeg`` is installed, Gradio would run it on uploads to take their sound out, and ``ffprobe`` on what it
    shows: outside of the limits on reading.
    """
    box: Any = gr.Video(
        label="Video",
        sources=["upload", "webcam"],
        webcam_options=gr.WebcamOptions(mirror=False),  # left is to stay left
        include_audio=False,
        elem_id="video",
    )
    # Set here and not in a subclass: Gradio writes a stub file beside the source of every such class.
    box.preprocess = lambda payload: payload
    box.postprocess = lambda value: None if value is None else FileData(path=str(value), orig_name=Path(value).name)
    return box
