"""The theme of the page, Gradio's default with system fonts, and its CSS."""

from gradio import themes

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Liberation Mono", "monospace")


def make_theme() -> themes.Base:
    """Returns a theme whose fonts have names alone, so that none is loaded from a server."""
    return themes.Default(
        primary_hue=themes.colors.blue,
        neutral_hue=themes.colors.slate,
        font=_SANS,
        font_mono=_MONO,
    )


CSS = """
.gradio-container {width: 100% !important; max-width: 1180px !important; margin: 0 auto !important}
#heading h1 {font-size: 1.35rem; font-weight: 650; margin: 0 0 .15rem}
#heading p {margin: 0; color: var(--body-text-color-subdued)}
.status, .note {margin: 0; font-size: .9rem; overflow-wrap: anywhere}
.refused {
  margin: 0; padding: .6rem .8rem; border-left: 4px solid #cf222e; background: #cf222e1a; overflow-wrap: anywhere;
}
#video video {max-height: 300px; margin: 0 auto}
#clip video {display: block; width: 100%; max-height: 340px; margin: 0 auto; background: #fff; border-radius: 6px}
.html-container {padding: 0 !important}
@media (max-width: 640px) {.gradio-container > .main {padding: 12px !important}}
/* Trimming would load a program from another host. */
#video button[aria-label^="Trim"], #video button[aria-label^="Reset"] {display: none}
.toast-wrap {top: auto !important; bottom: 16px !important}
#labels * {font-family: inherit}
#labels h2 {font-size: 1.3rem; padding: .3rem 0 .6rem}
#labels .confidence-set {margin-bottom: .3rem}
.timeline h2 {font-size: 1.05rem; font-weight: 650; margin: 0 0 .4rem}
.timeline div {width: 100%; overflow-x: auto}
.timeline img {width: 100%; min-width: 640px; max-width: none; background: #fff; border-radius: 6px}
.timeline table {
  width: auto !important; border-collapse: collapse; margin-top: .6rem; font-variant-numeric: tabular-nums;
}
.timeline table, .timeline tr {border: 0 !important}
.timeline caption {text-align: left; font-size: .9rem; padding-bottom: .3rem}
.timeline th, .timeline td {
  text-align: left; padding: .25rem 1.2rem .25rem 0; border: 0 !important;
  border-bottom: 1px solid var(--border-color-primary) !important;
}
"""
