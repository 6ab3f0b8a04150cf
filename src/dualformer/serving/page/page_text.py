"""The sentences and HTML of the page. Text from elsewhere, such as labels and names of files, is escaped."""

from base64 import b64encode
from html import escape

from dualformer.inference.recognizer import Prediction, Recognizer
from dualformer.inference.timeline import Timeline, format_time
from dualformer.plurals import counted
from dualformer.serving.service import Service
from dualformer.weights.exported.exported_network import ExportedNetwork

TITLE = "DualFormer: what happens in a video"
CHOOSE = "Drop a video, record one, or take one of the examples."
NO_EXPLANATION = "An exported model cannot explain: it has no gradients. Serve the weights that it was made from."
_AS_HIGH = (
    "const shown = this.contentDocument.documentElement;"
    "new ResizeObserver(() => {this.style.height = `${shown.offsetHeight}px`}).observe(shown)"
)
"""A script that keeps a page within the page as high as what it shows."""


def is_exported(service: Service) -> bool:
    return isinstance(service.recognizer.network, ExportedNetwork)


def heading_html(service: Service, *, trains: bool = False) -> str:
    """Returns what the page is for and which videos it takes; ``trains``: with a link to the page that trains."""
    recognizer, limits = service.recognizer, service.limits
    kinds = "which" if recognizer.card.multi_label else "which one"
    link = ' <a href="train/">Train on classes of your own</a>.' if trains else ""
    return (
        f"<h1>What happens in a video</h1><p>Drop a video or record one: the page says {kinds} of "
        f"{len(recognizer.labels)} classes it is. A video has up to {limits.max_seconds:g} s and "
        f"{limits.max_bytes / 2**20:.4g} MiB.{link}</p>"
    )


def examples_label(known: bool) -> str:
    what = "which these weights know" if known else "to try the page with; these weights have not learnt them"
    return f"Examples: rendered motions, {what}"


def model_name(service: Service) -> str:
    """Returns the name of the weights, the size of the network, the device and the precision."""
    recognizer, network = service.recognizer, service.recognizer.network
    if isinstance(network, ExportedNetwork):
        what = f"an exported model ({network.format})"
    else:
        parameters = sum(parameter.numel() for parameter in network.parameters())
        what = f"{parameters / 1e6:.1f} M parameters"
    return f"{service.name}: {what}, {recognizer.precision} on {recognizer.device}"


def views_text(recognizer: Recognizer) -> str:
    """Returns the views: ``4 clips × 1 crop of 16 frames at 64×64``."""
    views, pre = recognizer.views, recognizer.preprocessing
    clips = f"{views.clips} clip{'s' * (views.clips > 1)} × {views.crops} crop{'s' * (views.crops > 1)}"
    return f"{clips} of {pre.frames} frames at {pre.crop}×{pre.crop}"


def working_html(what: str) -> str:
    return f'<p class="status" role="status">{escape(what)} …</p>'


def result_html(service: Service, prediction: Prediction, seconds: float) -> str:
    """Returns how the prediction was computed and how long it took; with several labels, also the likely ones."""
    likely = ""
    if prediction.multi_label:
        named = ", ".join(label for label, _ in prediction.above()) or "none of the classes"
        likely = f"At least one half likely: {named}. "
    about = f"{model_name(service)}. {views_text(service.recognizer)}, {seconds:.2f} s from file to labels."
    return f'<p class="status" role="status">{escape(likely + about)}</p>'


def error_html(message: str) -> str:
    """Returns an error message on one line."""
    return f'<p class="refused" role="alert">{escape(" ".join(message.split()))}</p>'


def note_html(message: str) -> str:
    return f'<p class="note">{escape(message)}</p>'


def timeline_html(timeline: Timeline, editor: str, picture: bytes) -> str:
    """Returns a timeline: the page on which its segments are played and corrected, and its picture, a PNG."""
    source = _inline("image/png", picture)
    about = f"{counted(len(timeline.segments), 'segment')} in {format_time(timeline.seconds)}"
    empty = "" if timeline.segments else note_html("No class is likely enough for a segment.")
    alt = f"Probabilities of the labels over time: {about}, listed above."
    return (
        f'<section class="timeline">{empty}<iframe title="Timeline: {about}" srcdoc="{escape(editor)}" '
        f'onload="{_AS_HIGH}"></iframe><div><img src="{source}" alt="{alt}"></div></section>'
    )


def film_html(film: bytes, label: str) -> str:
    """Returns an MP4 that plays in a loop."""
    about = f"The clip, and beside it what speaks for {label}"
    source = _inline("video/mp4", film)
    return f'<video src="{source}" aria-label="{escape(about)}" autoplay loop muted playsinline controls></video>'


def _inline(kind: str, content: bytes) -> str:
    """Returns a data URL, so that the server need not keep a file for the browser."""
    return f"data:{kind};base64,{b64encode(content).decode()}"
