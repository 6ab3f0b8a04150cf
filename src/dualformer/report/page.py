"""Renders the page: HTML with everything in it. It asks the network for nothing, and its policy says so.

Numbers are formatted from the very data that stands in it as JSON: ``figures``, which is figures.json, and ``details``.
Names of classes and files come from outside; the templates escape all of them.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dualformer.evaluation.evaluation_text import trained_on_text
from dualformer.pages import PALETTE
from dualformer.report import report_charts
from dualformer.report.mistake_clips import MistakeClip
from dualformer.report.svg_charts import chart_style
from dualformer.text_encoding import json_text, without_surrogates

PAGE = "report.html"
_FOLDER = Path(__file__).parent


def render_page(
    figures: Mapping[str, Any],
    details: Mapping[str, Any],
    mistakes: Sequence[MistakeClip],
    *,
    not_explained: str | None = None,
    report_views: str = "`report_views`",
) -> str:
    """Returns the text of the page.

    ``figures``: what stands in figures.json; ``details``: what `report_details` returned. ``not_explained``: why the
    clips of the ``mistakes`` have no map, in a sentence. ``report_views``: what readers know that argument of
    `plan_report` as.
    """
    environment = template_environment()

    def figure(key: str) -> Markup:
        """Returns a formatted figure in an element that names its key."""
        return Markup('<span data-figure="{}">{}</span>').format(key, _FORMATS.get(key, str)(figures[key]))

    style, script = page_style_and_script()
    details = {**details, "mistakes": [each.to_dict() for each in mistakes]}
    confusion = details["confusion"]
    with chart_style():
        charts = {
            "confusion": confusion and report_charts.confusion_chart(confusion["cells"], details["classes"]),
            "training": report_charts.training_charts(details),
            "calibration": report_charts.calibration_chart(figures, details),
            "coverage": report_charts.coverage_chart(details),
            "views": report_charts.views_chart(figures),
            "compared": report_charts.compared_chart(details),
        }
    page = environment.get_template("page.html.jinja").render(
        figures=figures,
        details=details,
        figure=figure,
        policy=page_policy(style, script),
        style=Markup(style),
        script=Markup(script),
        figures_json=as_json(figures),
        details_json=as_json(details),
        clips=[None if each.video is None else b64encode(each.video).decode() for each in mistakes],
        not_explained=not_explained,
        report_views=report_views,
        trained_on=trained_on_text(figures),
        many_classes=len(details["classes"]) > report_charts.MOST_NAMED,
        title="/".join(Path(figures["weights"]).parts[-2:]),
        headline=report_charts.headline_strip(figures),
        **charts,
    )
    return without_surrogates(page)


def template_environment() -> Environment:
    """Returns an environment that finds the page's templates, escapes what they show, and refuses undefined names."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= _FILTERS
    return environment


def as_json(data: Mapping[str, Any], *, indent: int | None = 1) -> Markup:
    """Returns JSON that may stand within a ``script`` element: nothing in it ends the element."""
    text = json_text(data, indent=indent)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


_FILTERS: dict[str, Callable[[Any], str]] = {
    "percent": lambda value: "–" if value is None else f"{value:.1%}",
    "interval": lambda bounds: "–" if bounds is None else f"{bounds[0]:.1%} to {bounds[1]:.1%}",
    "decimal": "{:.3f}".format,
    "decimal_interval": lambda bounds: f"{bounds[0]:.3f} to {bounds[1]:.3f}",
    "gmacs": lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}",
    "millions": lambda value: f"{value / 1e6:.2f} M",
    "count": "{:,}".format,
    "tenths": "{:.1f}".format,
    "hundredths": "{:.2f}".format,
}
_FIGURES_OF_FILTERS = {
    "percent": "top1 top5 mean_class_accuracy majority_class mean_average_precision chance micro_f1 macro_f1",
    "interval": "top1_interval top5_interval mean_class_accuracy_interval mean_average_precision_interval",
    "decimal": "cross_entropy calibration_error",
    "decimal_interval": "cross_entropy_interval",
    "gmacs": "gmacs gmacs_per_view",
    "millions": "parameters",
    "count": "videos missing",
    "tenths": "clips_per_second seconds",
    "hundredths": "labels labels_named",
}
_FORMATS = {key: _FILTERS[name] for name, keys in _FIGURES_OF_FILTERS.items() for key in keys.split()}
"""How figures are shown; the others as they are."""


def page_style_and_script() -> tuple[str, str]:
    """Returns the style sheet and the script that all pages share."""
    return read_page_files(PALETTE, "page.css"), read_page_files("page.js")


def read_page_files(*names: str | Path) -> str:
    """Returns the text of style sheets, or scripts, one behind the other; of names alone, those in this folder."""
    return "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in names)


def page_policy(style: str, script: str, *, media: str = "data:") -> str:
    """Returns a content security policy that allows this style, this script, images within the page, and videos from
    ``media``: within the page, if it is not given."""

    def hashed(text: str) -> str:
        return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; style-src {hashed(style)}; script-src {hashed(script)}; img-src data:; "
        f"media-src {media}; base-uri 'none'; form-action 'none'"
    )
