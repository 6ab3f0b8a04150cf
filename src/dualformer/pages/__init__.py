"""What web pages of several rooms share, as files: their colours and how their scripts find elements."""

from pathlib import Path

PALETTE = Path(__file__).with_name("palette.css")
"""Names of colours, light and dark."""
ELEMENT = Path(__file__).with_name("element.js")
"""The function ``element``."""
