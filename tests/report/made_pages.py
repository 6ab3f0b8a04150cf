"""A page as tests read it."""

from __future__ import annotations

import json
from base64 import b64decode
from html.parser import HTMLParser
from typing import Any


class ReadPage(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: dict[str, str] = {}
        """Words shown for each figure; the same one may be shown several times, and is then the same."""
        self.data: dict[str, Any] = {}
        """JSON by the id of its element."""
        self.programs: list[str] = []
        self.text = ""
        self._script: dict[str, str | None] | None = None
        self._inside: list[str] = []
        self._figure: str | None = None
        self._figure_text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "script":
            self._script = found
        elif tag == "span" and "data-figure" in found:
            self._figure, self._figure_text = found["data-figure"], ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = None
        elif tag == "span" and self._figure is not None:
            assert self.figures.setdefault(self._figure, self._figure_text) == self._figure_text
            self._figure = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            if self._script.get("type") == "application/json":
                self.data[str(self._script["id"])] = json.loads(data)
            else:
                self.programs.append(data)
            return
        if self._figure is not None:
            self._figure_text += data
        self.text += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        """Attributes of every element of a name."""
        return [attributes for tag, attributes in self.tags if tag == name]

    def videos(self) -> list[bytes]:
        """What the clips are."""
        sources = [str(each["src"]) for each in self.all("video")]
        assert all(source.startswith("data:video/mp4;base64,") for source in sources)
        return [b64decode(source.partition(",")[2], validate=True) for source in sources]
