"""Markdown pages as tests see them: fenced blocks with what is said about them, links, headings, tables."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
"""Pages whose blocks run."""
PAGES = [*RUN, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]

_FENCE = re.compile(r"```(\w*)\s*$")
_NOTE = re.compile(r"<!--\s*(not run|exits with)\s*:?\s*(.*?)\s*-->")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block. ``line`` is where its text begins, counted from 1."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None = None
    """Why it does not run."""
    exit_code: int = 0

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """The command lines of the block, as words. Where a console block has lines with ``$``, only these."""
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console" and any(line.startswith("$ ") for line in lines):
            lines = [line[2:] for line in lines if line.startswith("$ ")]
        words = (shlex.split(line, comments=True) for line in lines)
        return [command for command in words if command]


def blocks(page: Path) -> list[Block]:
    """Errors: ``ValueError`` for a fence that is not closed, or a note that stands in front of no block."""
    found: list[Block] = []
    text: list[str] | None = None
    language, start, note = "", 0, None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if text is not None:
            if line.startswith("```"):
                found.append(_block(page, start, language, "\n".join(text) + "\n", note))
                text = note = None
            else:
                text.append(line)
        elif fence := _FENCE.match(line):
            text, language, start = [], fence[1], number + 1
        elif said := _NOTE.match(line.strip()):
            note = said
        elif line.strip() and note:
            raise ValueError(f"{page.name}:{number}: {note[0]} stands in front of no block")
    if text is not None:
        raise ValueError(f"{page.name}:{start}: the block is not closed")
    return found


def _block(page: Path, line: int, language: str, text: str, note: re.Match[str] | None) -> Block:
    if note is None:
        return Block(page=page, line=line, language=language, text=text)
    if note[1] == "exits with":
        return Block(page=page, line=line, language=language, text=text, exit_code=int(note[2]))
    if not note[2]:
        raise ValueError(f"{page.name}:{line}: a block that does not run needs a reason")
    return Block(page=page, line=line, language=language, text=text, not_run=note[2])


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Targets of links and images that are not on the web."""
    targets = [target for target in _LINK.findall(prose(page)) if not re.match(r"[a-z]+:", target)]
    return [*targets, *re.findall(r"<img[^>]*\ssrc=\"(?!https?:)([^\"]+)\"", prose(page))]


def anchors(page: Path) -> set[str]:
    """What ``#…`` may name: the headings as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(page: Path) -> list[list[str]]:
    """Cells of all rows of all tables."""
    lines = (line for line in prose(page).splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
