"""What the documentation says is run: Python blocks, command lines, links, tables of figures and of messages."""

from __future__ import annotations

import ast
import importlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from blocks import PAGES, ROOT, RUN, Block, anchors, blocks, links, rows

from dualformer.cli.main import VERBS, main, parse
from dualformer.cli.option_names import OptionNames
from dualformer.cli.train import Options
from dualformer.model.cost import measure_cost
from dualformer.model.presets import list_models, preset_config
from dualformer.paper.paper_tables import ROWS, compute_costs

_SMALL = ("--size", "32", "--batch-size", "8", "--max-steps", "2", "--workers", "0")
_EXPORT = ("--clips", "2", "--workers", "0")
_NETWORK = ("--frames", "4", *_SMALL)
APPENDED: dict[tuple[str, ...], tuple[str, ...]] = {
    ("quickstart",): (
        "--train-videos",
        "2",
        "--val-videos",
        "1",
        "--test-videos",
        "1",
        "--epochs",
        "1",
    ),
    ("ablate", "--run"): (*_NETWORK, "--precision", "float32", "--accelerator", "cpu", "--seeds", "1", "--rows", "peg"),
    ("train", "--resume"): ("--max-steps", "4", "--workers", "0"),
    ("train", "--frames", "1"): (*_SMALL, "--precision", "float32", "--accelerator", "cpu"),
    ("train",): (*_NETWORK, "--precision", "float32", "--accelerator", "cpu"),
    ("export", "int8"): (*_EXPORT, "--calibration-clips", "6", "--accuracy-videos", "3", "--views", "1x1"),
    ("export",): _EXPORT,
    ("evaluate", "--timeline"): ("--device", "cpu"),
    ("evaluate",): ("--workers", "0", "--device", "cpu"),
    ("predict",): ("--device", "cpu"),
    ("explain",): ("--device", "cpu"),
    ("convert", "--fit"): ("--fit-steps", "1", "--workers", "0", "--device", "cpu"),
    ("check",): ("--workers", "1"),
    ("bench",): (*("--clip", "4x32x32", "--rounds", "1", "--no-memory"), *("--backend", "eager", "--device", "cpu")),
}
"""What is added to commands so that they take seconds: the first entry whose words all occur. Where an option is given
twice, the last one counts."""

ELSEWHERE = ("git", "cd", "pip", "python", "hf", "ray")
"""Programs that pages may name and that this test does not run."""

LAUNCHERS = ("torchrun", "srun")
"""Programs that start others."""


def ids(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", RUN, ids=ids)
def test_blocks_run(page: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            _run_python(block, namespace, exact=page.parent.name == "docs")
        elif block.language in ("console", "sh"):
            for command in block.commands():
                code = _run_command(block, command)
                said = capsys.readouterr()
                assert code == block.exit_code, f"{block.place}: {' '.join(command)}\n{said.out}\n{said.err}"
        else:
            assert block.language == "text", f"{block.place}: a block is python, console, sh or text"


def _run_python(block: Block, namespace: dict[str, Any], *, exact: bool) -> None:
    # Padded, so that a traceback names the page's line.
    tree = ast.parse("\n" * (block.line - 1) + block.text, filename=block.place)
    if block.not_run:
        return
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, block.place, "exec"), namespace)
    if exact:
        expected = re.findall(r"^ *print\(.*?\)(?:  # (.*))?$", block.text, flags=re.MULTILINE)
        if any(expected):
            lines = printed.getvalue().splitlines()
            # Progress of training and the like comes before what the block prints itself.
            assert [line for line in expected if line] == [
                said for said, line in zip(lines[-len(expected) :], expected, strict=True) if line
            ], block.place


def _run_command(block: Block, command: list[str]) -> int:
    program, *words = command
    program = program.removeprefix(".venv/bin/")
    if program in LAUNCHERS:
        program, words = "dualformer", words[words.index("dualformer") + 1 :]
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert words and set(words) <= set(targets), f"{block.place}: no such target: {' '.join(command)}"
        return block.exit_code
    assert program == "dualformer" or program in ELSEWHERE, (
        f"{block.place}: {program} is no program that pages may name"
    )
    if program != "dualformer":
        return block.exit_code
    if words and words[0] in VERBS and "--help" not in words:
        if block.not_run:
            parse(importlib.import_module(f"dualformer.cli.{words[0]}"), words[0], words[1:])
            return block.exit_code
        words += next((extra for key, extra in APPENDED.items() if set(key) <= set(words)), ())
    try:
        return main(words)
    except SystemExit as stop:  # how tyro ends after --help
        return int(stop.code or 0)


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{page.name}: {target}; there are {sorted(anchors(there))}"


def test_every_page_is_in_the_index() -> None:
    linked = {target.partition("#")[0] for target in links(ROOT / "docs" / "index.md")}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} <= linked


def test_contributing_names_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text().split())
    named = set(re.findall(r"`make (\w+)`", text))
    assert named and named <= targets


def test_the_table_of_presets_is_what_info_prints() -> None:
    table = {
        row[0].strip("`"): row[1:] for row in rows(ROOT / "docs" / "network.md") if row[0].startswith("`dualformer_")
    }
    assert list(table) == list_models()
    for name, cells in table.items():
        cost, clip = measure_cost(preset_config(name)), preset_config(name).clip
        without = cost.parameters - cost.classifier
        assert cells == [
            "×".join(map(str, clip)),
            *(f"{count / 1e6:.3f} M" for count in (cost.parameters, without)),
            *(f"{cost.macs / 1e9 * views:.2f}" for views in (1, 4)),
        ], name


def test_the_table_of_stages_is_what_info_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "dualformer_tiny", "--json"]) == 0
    stages = json.loads(capsys.readouterr().out)["cost"]["stages"]
    expected = [
        [
            str(number),
            "×".join(map(str, stage["size"])),
            *(f"{stage[key]:,}" for key in ("channels", "tokens", "windows", "pyramid_tokens")),
        ]
        for number, stage in enumerate(stages, 1)
    ]
    assert [row for row in rows(ROOT / "docs" / "network.md") if row[0].isdecimal()] == expected


def test_the_table_of_ablations_is_what_ablate_computes() -> None:
    def figure(value: float | None, digits: int = 0) -> str:
        return "–" if value is None else f"{value:.{digits}f}"

    expected = []
    for each in compute_costs(ROWS):
        assert each.cost is not None
        published = each.row.published
        accuracy = [published.top1, published.top5] if published.top1 else [None]
        expected.append(
            [
                f"`{each.row.key}`",
                figure(published.gflops),
                figure(each.gflops),
                figure(each.cost.macs / 1e9, 2),
                figure(published.parameters, 1),
                figure(each.parameters, 2),
                " / ".join(figure(value, 1) for value in accuracy),
            ]
        )
    assert [row for row in rows(ROOT / "docs" / "network.md") if re.match("`[1-8]/", row[0])] == expected


def test_the_tour_names_what_is_in_the_files() -> None:
    page = ROOT / "docs" / "network.md"
    tour = [row for row in rows(page) if len(row) == 3 and "](../src/" in row[1]]
    assert len(tour) > 8
    for _, file, names in tour:
        source = (page.parent / re.findall(r"\]\((.*)\)", file)[0]).read_text()
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(class|def) {name}\b", source, flags=re.MULTILINE), name


def test_the_messages_that_pages_explain_exist() -> None:
    names = OptionNames(Options)  # as `dualformer train` spells them
    pieces = [names.spell(text) for text in _texts(ROOT / "src")]
    table = rows(ROOT / "docs" / "your-videos.md")
    start = next(i for i, row in enumerate(table) if row[0] == "the message says")
    explained = [row[0].strip("`") for row in table[start + 2 :]]
    assert len(explained) > 8
    for message in explained:
        assert any(message in piece for piece in pieces), message


def _texts(folder: Path) -> Iterator[str]:
    """All strings in the source; what stands between two insertions of an f-string is one."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
