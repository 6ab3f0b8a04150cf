"""The map of CONTRIBUTING.md names files and definitions that there are."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "dualformer"
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_every_room_is_on_the_map() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    drawn = set(re.findall(r"\b([a-z]+)/", TEXT[TEXT.index("```text") : TEXT.index("**Read these")]))
    assert rooms <= drawn


def test_files_on_the_map_exist() -> None:
    tree = TEXT[TEXT.index("```text") : TEXT.index("**Read these")]
    names = set(re.findall(r"\b(\w+\.py)\b", tree))
    there = {path.name for path in PACKAGE.rglob("*.py")}
    assert len(names) > 40
    assert names <= there, names - there


def test_what_is_to_be_changed_is_where_it_says() -> None:
    rows = re.findall(r"^\| .+ \| `([\w/]+\.py)`: `(\w+)` \|$", TEXT, flags=re.MULTILINE)
    assert len(rows) >= 10
    for name, definition in rows:
        tree = ast.parse((PACKAGE / name).read_text(encoding="utf-8"))
        defined = {getattr(node, "name", None) for node in tree.body}
        defined |= {
            ast.unparse(target) for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
        }
        defined |= {ast.unparse(node.target) for node in tree.body if isinstance(node, ast.AnnAssign)}
        assert definition in defined, f"{name} has no {definition}"
    for name in re.findall(r"`((?:model|video|scoring|inference|training)/\w+\.py)` \(", TEXT):
        assert (PACKAGE / name).is_file(), name
