"""The house rules that a machine can hold: who imports whom, sizes, what loads when, dependencies, foreign paths."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from dualformer.cli.main import VERBS, usage

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "dualformer"
MODULES = sorted(PACKAGE.rglob("*.py"))

_FLOORS_1_2 = {"model", "video", "weights", "datasets", "scoring"}
MAY_IMPORT: dict[str, set[str]] = {
    "model": set(),
    "video": set(),
    "weights": {"model", "video.preprocessing"},  # a weights file says how its input is made
    "datasets": {"video"},
    "pages": set(),
    "scoring": {"model", "video", "weights"},
    "training": _FLOORS_1_2,
    "evaluation": _FLOORS_1_2,
    "inference": _FLOORS_1_2 - {"datasets"},
    "explain": {*_FLOORS_1_2 - {"datasets"}, "inference"},
    "timelines": {*_FLOORS_1_2, "evaluation", "inference"},  # it reads timelines, and matches labels
    "export": {*_FLOORS_1_2, "evaluation", "pages"},
    "encoders": {*_FLOORS_1_2, "training"},
    "quickstart": {*_FLOORS_1_2, "training", "evaluation", "inference", "explain"},
    "report": {*_FLOORS_1_2 - {"datasets"}, "evaluation", "timelines", "inference", "explain", "pages"},
    "serving": {
        *_FLOORS_1_2,
        *("inference", "explain", "report.segment_editor", "pages"),
        *("training", "evaluation", "export"),  # of the process that trains on clips of visitors
    },
    "bench": {*_FLOORS_1_2 - {"datasets"}, "inference", "export"},
    "paper": {*_FLOORS_1_2, "training", "evaluation"},
    "cli": {
        *_FLOORS_1_2,
        *("export", "explain", "training", "evaluation", "inference", "bench", "quickstart", "report", "serving"),
        *("encoders", "paper", "timelines"),
    },
}
"""Rooms, or modules of them, besides a room's own."""
EVERYBODYS = {
    *("cores", "errors", "files", "moved_files", "plurals", "segment", "subtitles", "text_encoding", "timestamps"),
    *("disk_cache", "remote_files", "remote_paths", "urls", "user_cache"),
    "_version",
}
OUTSIDE = {"model": {"torch"}, "video": {"av", "numpy", "torch", "PIL", "torchcodec", "fsspec", "pyarrow"}}
"""All that the rooms on the ground floor need besides Python."""
MOST_LINES = 420
NAMES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}


def name_of(path: Path) -> str:
    """``model.config`` for ``src/dualformer/model/config.py``; ``model`` for its ``__init__.py``."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names of the modules that any import statement below ``tree`` names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are absolute"
            assert node.module is not None
            yield node.module


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_room_is_in_the_table() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert rooms == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_rooms_import_from_floors_below(room: str) -> None:
    for path in sorted((PACKAGE / room).rglob("*.py")):
        for name in imports(parsed(path)):
            if not name.startswith("dualformer"):
                continue
            inside = name.removeprefix("dualformer").removeprefix(".")
            allowed = {room, *EVERYBODYS, *MAY_IMPORT[room]}
            assert any(inside == one or inside.startswith(f"{one}.") for one in allowed), f"{path}: imports {name}"


@pytest.mark.parametrize("room", OUTSIDE)
def test_the_ground_floor_needs_little(room: str) -> None:
    for path in sorted((PACKAGE / room).rglob("*.py")):
        foreign = {name.partition(".")[0] for name in imports(parsed(path))} - set(sys.stdlib_module_names)
        assert foreign <= {"dualformer", *OUTSIDE[room]}, path


def test_no_module_imports_itself_in_a_circle() -> None:
    """Imports inside functions and those for types alone count as well."""
    below = {name_of(path): imported_modules(path) for path in MODULES}
    assert sum(map(len, below.values())) > len(MODULES)
    assert not circles(below)


def imported_modules(path: Path) -> set[str]:
    """The package's own modules that a module imports anywhere."""
    found: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    names = {name.removeprefix("dualformer.") for name in found if name.startswith("dualformer.")}
    return {name if name in NAMES else name.rpartition(".")[0] for name in names} & NAMES - {name_of(path)}


def circles(below: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules, each of which reaches all others of its group."""
    reached = {module: set(others) for module, others in below.items()}
    for middle in below:
        for others in reached.values():
            if middle in others:
                others |= reached[middle]
    groups = {frozenset(other for other in others if module in reached[other]) for module, others in reached.items()}
    return [set(group) for group in groups if group]


def test_circles_are_found() -> None:
    found = circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"f", "a"}, "f": {"e"}, "g": {"a"}})
    assert sorted(map(sorted, found)) == [["a", "b", "c"], ["e", "f"]]


def test_the_paper_is_imported_by_the_command_line_alone() -> None:
    importing = {name_of(path) for path in MODULES if any("dualformer.paper" in name for name in imports(parsed(path)))}
    assert {name.partition(".")[0] for name in importing} == {"paper", "cli"}


def test_at_most_two_files_share_a_name() -> None:
    names = Counter(path.name for path in MODULES if path.name != "__init__.py")
    assert max(names.values()) <= 2, names.most_common(3)


@pytest.mark.parametrize("room", sorted(set(MAY_IMPORT) - {"cli"}))
def test_only_the_command_line_knows_what_an_option_is_called(room: str) -> None:
    """Messages below name arguments in backquotes, as in `batch_size`. Whole commands may be written out."""
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {option}"
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for line, text in texts(parsed(path))
        for option in options_in(text)
    ]
    assert not found, "\n".join(found)


OF_OTHER_PROGRAMS = {
    *("--abbrev", "--always", "--dirty", "--error-unmatch", "--exclude"),  # git
    *("--ntasks", "--ntasks-per-node"),  # SLURM
    "--logdir",  # TensorBoard
}


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every string with its line; values within an f-string as {}."""
    if isinstance(tree, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in tree.values)
        yield tree.lineno, "".join(map(str, parts))
    elif isinstance(tree, ast.Constant) and isinstance(tree.value, str):
        yield tree.lineno, tree.value
    if not isinstance(tree, ast.JoinedStr):
        for node in ast.iter_child_nodes(tree):
            yield from texts(node)


def options_in(text: str) -> list[str]:
    """Options that a text names, but in commands (until the end of the line), variables of CSS and other programs."""
    text = re.sub(r"dualformer [a-z]+ .*(\n +--.*)*", "", text)
    return [
        found
        for found in re.findall(r"(?<![\w(-])--[a-z][a-z-]+|(?<!var)\(--[a-z][a-z-]+", text)
        if found.lstrip("(") not in OF_OTHER_PROGRAMS
    ]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("lower --lr, or leave it (--lr)", ["--lr", "(--lr"]),
        ("next: dualformer train --data {} --lr 1", []),
        ("Command: dualformer train NAME --data K400\n        --teacher BASE\nwith --views 4x1", ["--views"]),
        ("color: var(--ink)", []),
        ("SLURM was told --ntasks=8", []),
        ("a -- b, `lr`, --{}", []),
    ],
)
def test_options_are_found(text: str, options: list[str]) -> None:
    assert options_in(text) == options


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)
    assert "__test__" not in text
    tree = parsed(path)
    assert ast.get_docstring(tree) or path.name == "_version.py", "a module says what it is for"
    caught = [node.type for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    assert all(kind is not None and ast.unparse(kind) != "Exception" for kind in caught)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'av', 'numpy', 'tyro', 'rich', 'huggingface_hub'}"
    assert run(f"import sys, dualformer; print(sorted({heavy} & set(sys.modules)))") == "[]\n"
    assert run(
        "import sys, dualformer; dualformer.create_model; print('torch' in sys.modules, 'av' in sys.modules)"
    ) == ("True False\n")


def test_training_and_prediction_load_no_library_of_an_extra() -> None:
    extras = "{'captum', 'fastapi', 'gradio', 'onnx', 'openvino', 'ray', 'scipy', 'tensorboard', 'transformers'}"
    rooms = "dualformer.training.train, dualformer.evaluation.evaluate, dualformer.inference.recognizer"
    assert run(f"import sys, {rooms}; print(sorted({extras} & set(sys.modules)))") == "[]\n"

    rooms = "dualformer.evaluation.evaluate, dualformer.inference.recognizer, dualformer.inference.batch_runner"
    slow = "{'lightning_fabric', 'matplotlib', 'sympy', 'torch._dynamo', 'torch.distributed.tensor'}"
    assert run(f"import sys, {rooms}; print(sorted({slow} & set(sys.modules)))") == "[]\n"


def test_help_loads_neither_torch_nor_tyro_and_lists_every_verb() -> None:
    code = "import sys; from dualformer.cli.main import main; main(['--help'])"
    out = run(f"{code}; print(sorted({{'torch', 'tyro', 'numpy', 'av'}} & set(sys.modules)))")
    assert out == f"{usage()}\n[]\n"
    listed = re.findall(r"^  ([a-z]+)  ", out, flags=re.MULTILINE)
    verbs = [
        path.stem for path in (PACKAGE / "cli").glob("*.py") if "class Options" in path.read_text(encoding="utf-8")
    ]
    assert sorted(listed) == sorted(verbs)


def test_the_help_of_a_verb_does_not_load_torch() -> None:
    verbs = ", ".join(f"dualformer.cli.{verb}" for verb in VERBS)
    assert run(f"import sys, {verbs}; print(sorted({{'torch', 'av', 'numpy'}} & set(sys.modules)))") == "[]\n"


@pytest.mark.parametrize("verb", VERBS)
def test_options_are_frozen_and_given_by_name(verb: str) -> None:
    options = importlib.import_module(f"dualformer.cli.{verb}").Options
    parameters = options.__dataclass_params__
    assert parameters.frozen
    assert all(field.kw_only for field in dataclasses.fields(options))


def test_dependencies_have_no_upper_bounds() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    project = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    requirements = re.findall(r'"([^"]+)"', re.sub(r"#.*", "", project))
    assert len(requirements) > 15
    for requirement in requirements:
        assert re.fullmatch(r"[\w.-]+(\[[\w,]+\])?(>=[\w.]+)?", requirement), requirement
    names = {re.split(r"[\[>]", requirement)[0] for requirement in requirements}
    assert not names & {"torchvision", "decord", "timm"}, "see why in the notes on dependencies"


def test_every_extra_says_what_it_is_for() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    lines = text[text.index("[project.optional-dependencies]") : text.index("[project.scripts]")].splitlines()[1:]
    extras = [number for number, line in enumerate(lines) if re.match(r"\w+ = \[", line)]
    assert len(extras) >= 6
    for number in extras:
        assert re.match(r"# \w.*\.$", lines[number - 1]), lines[number]


def test_the_tested_set_pins_what_is_required() -> None:
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    text = (ROOT / "pyproject.toml").read_text()
    core = text[text.index("dependencies = [") : text.index("[project.optional-dependencies]")]
    needed = dict(re.findall(r'"([\w.-]+)>=([\d.]+)"', core))
    assert set(needed) <= set(pinned)
    for name, least in needed.items():
        assert tuple(map(int, pinned[name].split("."))) >= tuple(map(int, least.split("."))), name
    assert not any("+" in version for version in pinned.values()), "local versions do not exist on the package index"


def test_nothing_belongs_to_one_machine() -> None:
    texts = {
        path: path.read_text(encoding="utf-8")
        for folder in ("src", "tests", "docs", "benchmarks", ".ci", ".")
        for path in ((ROOT / folder).glob("*") if folder == "." else (ROOT / folder).rglob("*"))
        if path.is_file()
        and (path.suffix in {".py", ".md", ".toml", ".txt", ".sh", ".yml"} or path.name in {"Makefile", "run"})
    }
    assert len(texts) > len(MODULES)
    homes = "|".join(("work", "root", "home", "Users", "tmp", "mnt"))
    for path, text in texts.items():
        found = re.search(rf"(?<![\w.*}}/-])/({homes})(?=[/\"'\s]|$)", text, flags=re.MULTILINE)
        assert not found, f"{path}: {found[0]}"
        outside = re.search(r"\.\./shared|parents\[\d\] / \"shared\"", text)
        own = path in (Path(__file__), ROOT / "tests" / "conftest.py")
        assert own or not outside, f"{path}: only tests/conftest.py knows where real clips lie"
