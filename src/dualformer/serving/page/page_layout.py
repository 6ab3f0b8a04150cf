"""The page itself: what is on it, and what its buttons do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr

from dualformer.errors import DualFormerError
from dualformer.inference.timeline_drawing import draw_timeline
from dualformer.serving.page import page_text
from dualformer.serving.page.examples import Example, are_known
from dualformer.serving.page.upload import upload_box
from dualformer.serving.service import Service

_BARS = 5

Shown = dict[Any, Any]
"""What becomes of the components: a value or an update for each that changes."""


def make_page(service: Service, *, folder: Path, examples: list[Example]) -> gr.Blocks:
    """The page as Gradio's blocks. What is written for a visitor goes into ``folder``."""
    return _Page(service, folder, examples).blocks


class _Page:
    def __init__(self, service: Service, folder: Path, examples: list[Example]) -> None:
        self._service = service
        self._folder = folder
        with gr.Blocks(title=page_text.TITLE, analytics_enabled=False) as self.blocks:
            self._lay_out(examples)
        self.blocks.queue(
            api_open=False,
            max_size=2 * service.limits.concurrency,
            default_concurrency_limit=service.limits.concurrency,
        )

    def _lay_out(self, examples: list[Example]) -> None:
        labels = self._service.recognizer.labels
        gr.HTML(page_text.heading(self._service), elem_id="heading")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                self._video = upload_box(label="Video", elem_id="video")
                self._button = gr.Button("Recognise", variant="primary", elem_id="recognise")
                chosen = gr.Dataset(
                    components=["textbox"],
                    samples=[[example.name] for example in examples],
                    type="index",
                    label=page_text.about_examples(are_known(labels)),
                    elem_id="examples",
                )
            with gr.Column(scale=6, min_width=300):
                self._status = gr.HTML(page_text.note(page_text.model_name(self._service)), elem_id="status")
                self._labels = gr.Label(label="Labels", num_top_classes=_BARS, visible=False, elem_id="labels")
                self._note = gr.HTML(visible=False, elem_id="note")
                self._class = gr.Dropdown(
                    list(labels), label="Grad-CAM: what speaks for the class", visible=False, elem_id="class"
                )
                self._clip = gr.HTML(visible=False, elem_id="clip")
        self._timeline = gr.HTML(visible=False, elem_id="timeline")

        answers = [self._status, self._labels, self._note, self._class, self._clip, self._timeline]
        chosen.click(
            lambda index: str(examples[index].path),
            [chosen],
            [self._video],
            show_progress="hidden",
            api_visibility="private",
        )
        # One event for all, of which the last one counts: two would race for what is on the page.
        gr.on(
            [self._video.change, self._button.click],
            self._recognise,
            [self._video],
            answers,
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )
        self._class.input(
            self._explain,
            [self._video, self._class],
            [self._note, self._clip],
            show_progress="hidden",
            trigger_mode="always_last",
            api_visibility="private",
        )

    async def _recognise(self, video: str | None) -> AsyncIterator[Shown]:
        """Labels, then the timeline, then the explanation of the most likely class: each as soon as it is there.

        Every step says all that is on the page: where the browser gets several at once, it keeps the last alone.
        """
        if video is None:
            yield self._blank() | {self._status: page_text.note(page_text.CHOOSE)}
            return
        shown = self._blank() | {self._status: page_text.working("Reading the video and asking the network")}
        yield shown
        path, begun = Path(video), time.perf_counter()
        try:
            prediction = await self._service.predict(path)
        except DualFormerError as error:
            yield self._blank() | {self._status: page_text.refused(str(error))}
            return
        shown = shown | {
            self._status: page_text.computed(self._service, prediction, time.perf_counter() - begun),
            self._labels: gr.Label(dict(prediction.top(_BARS)), visible=True),
        }
        yield shown
        shown = shown | {self._timeline: await self._timeline_of(path)}
        yield shown
        if page_text.is_exported(self._service):
            yield shown | {self._note: gr.HTML(page_text.note(page_text.NO_EXPLANATION), visible=True)}
            return
        async for explained in self._explain(video, prediction.label):
            shown = shown | explained
            yield shown
        choices = [(f"{label} ({p:.1%})", label) for label, p in prediction.top(len(prediction.labels))]
        yield shown | {self._class: gr.Dropdown(choices, value=prediction.label, visible=True)}

    async def _timeline_of(self, path: Path) -> gr.HTML:
        """Nothing for a video that is no longer than a clip."""
        try:
            timeline = await self._service.timeline(path)
        except DualFormerError as error:
            return gr.HTML(page_text.refused(str(error)), visible=True)
        if timeline.clips == 1:
            return gr.HTML(visible=False)
        with TemporaryDirectory(dir=self._folder) as folder:
            picture = Path(folder) / "timeline.png"
            await asyncio.to_thread(draw_timeline, picture, timeline)
            return gr.HTML(page_text.timeline_html(timeline, picture.read_bytes()), visible=True)

    async def _explain(self, video: str | None, label: str) -> AsyncIterator[Shown]:
        """The Grad-CAM clip of a class."""
        if video is None:
            return
        hidden = gr.HTML(visible=False)
        working = page_text.working(f"Looking for what speaks for {label}")
        yield {self._note: gr.HTML(working, visible=True), self._clip: hidden}
        with TemporaryDirectory(dir=self._folder) as folder:
            try:
                clip = await self._service.explain(Path(video), label, Path(folder))
            except DualFormerError as error:
                yield {self._note: gr.HTML(page_text.refused(str(error)), visible=True), self._clip: hidden}
                return
            film = page_text.film_html(clip.read_bytes(), label)
        yield {self._note: hidden, self._clip: gr.HTML(film, visible=True)}

    def _blank(self) -> Shown:
        hidden = (self._labels, self._note, self._class, self._clip, self._timeline)
        return {self._status: "", **{component: gr.update(visible=False) for component in hidden}}
