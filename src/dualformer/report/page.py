"""The page: one HTML file with everything in it. Nothing in it asks the network for anything, and its policy says so.

Numbers are formatted from the very data that stands in it as JSON: ``figures``, which is figures.json, and ``details``.
Names of classes and files come from outside; the templates escape all of them.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dualformer.files import write_text
from dualformer.report.mistake_clips import MistakeClip
from dualformer.report.report_charts import (
    MOST_NAMED,
    calibration_chart,
    compared_chart,
    confusion_chart,
    coverage_chart,
    headline_strip,
    training_charts,
    views_chart,
)
from dualformer.report.svg_charts import chart_style

PAGE = "report.html"
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Page:
    """What was written."""

    path: Path
    size: int
    """Bytes."""


def write_page(
    path: Path,
    figures: Mapping[str, Any],
    details: Mapping[str, Any],
    mistakes: Sequence[MistakeClip],
    *,
    not_explained: str | None = None,
) -> Page:
    """Writes the page whole or not at all.

    ``figures``: what stands in figures.json; ``details``: what `content.gather` gathered. ``not_explained``: why the
    clips of the ``mistakes`` have no map, in a sentence.
    Errors: `FileWriteError` if the file cannot be written.
    """
    text = render(figures, details, mistakes, not_explained=not_explained)
    write_text(path, text)
    return Page(path=path, size=len(text.encode()))


def render(
    figures: Mapping[str, Any],
    details: Mapping[str, Any],
    mistakes: Sequence[MistakeClip],
    *,
    not_explained: str | None = None,
) -> str:
    """The text of the page."""
    environment = template_environment()

    def figure(key: str) -> Markup:
        """A figure in words, and marked as what it is."""
        return Markup('<span data-figure="{}">{}</span>').format(key, _FORMATS.get(key, str)(figures[key]))

    style, script = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    details = {**details, "mistakes": [each.to_dict() for each in mistakes]}
    with chart_style():
        charts = {
            "confusion": _confusion(details),
            "training": training_charts(details),
            "calibration": calibration_chart(figures, details),
            "coverage": coverage_chart(details),
            "views": views_chart(figures),
            "compared": compared_chart(details),
        }
    return environment.get_template("page.html.jinja").render(
        figures=figures,
        details=details,
        figure=figure,
        policy=_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        figures_json=as_json(figures),
        details_json=as_json(details),
        clips=[None if each.video is None else b64encode(each.video).decode() for each in mistakes],
        not_explained=not_explained,
        many_classes=len(details["classes"]) > MOST_NAMED,
        title="/".join(Path(figures["weights"]).parts[-2:]),
        headline=headline_strip(figures),
        **charts,
    )


def template_environment() -> Environment:
    """Finds the templates of the page; what they show is escaped, and nothing that they show is undefined."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {each.__name__: each for each in (share, interval, nats, gmacs, millions, count)}
    return environment


def as_json(data: Mapping[str, Any]) -> Markup:
    """JSON that may stand within a ``script`` element: nothing in it ends the element, and it reads as what it was."""
    text = json.dumps(data, ensure_ascii=False, indent=1)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def share(value: float | None) -> str:
    """``91.0%``"""
    return "–" if value is None else f"{value:.1%}"


def interval(bounds: Sequence[float] | None) -> str:
    """``85.2% to 94.6%``"""
    return "–" if bounds is None else f"{bounds[0]:.1%} to {bounds[1]:.1%}"


def nats(value: float) -> str:
    """A cross-entropy or a calibration error."""
    return f"{value:.3f}"


def nats_interval(bounds: Sequence[float]) -> str:
    """Likewise from and to."""
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def gmacs(value: float) -> str:
    """Three digits or so of 10⁹ multiply-adds."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def millions(value: int) -> str:
    """Parameters."""
    return f"{value / 1e6:.2f} M"


def count(value: int) -> str:
    """``1,234``"""
    return f"{value:,}"


_FORMATS: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("top1", "top5", "mean_class_accuracy", "majority_class"), share),
    **dict.fromkeys(("mean_average_precision", "chance", "micro_f1", "macro_f1"), share),
    **dict.fromkeys(("top1_interval", "top5_interval", "mean_class_accuracy_interval"), interval),
    "mean_average_precision_interval": interval,
    **dict.fromkeys(("cross_entropy", "calibration_error"), nats),
    "cross_entropy_interval": nats_interval,
    **dict.fromkeys(("gmacs", "gmacs_per_view"), gmacs),
    "parameters": millions,
    **dict.fromkeys(("videos", "missing"), count),
    **dict.fromkeys(("clips_per_second", "seconds"), "{:.1f}".format),
    **dict.fromkeys(("labels", "labels_named"), "{:.2f}".format),
}
"""How figures are shown; the others as they are."""


def _policy(style: str, script: str) -> str:
    """Nothing but what stands in the page: this style, this script, and images and videos that are written out."""

    def hashed(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {hashed(style)}; script-src {hashed(script)}; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _confusion(details: Mapping[str, Any]) -> Markup | None:
    confusion = details["confusion"]
    return None if confusion is None else confusion_chart(confusion["cells"], details["classes"])
