"""The tables of class names: complete, in the official order, as the folder beside the checkout has them."""

import hashlib
from pathlib import Path

import pytest

from dualformer.datasets.benchmark_classes import TABLES, class_names, spelling

SHA256 = {
    "kinetics400": "e9f2806fe9109b851a80a74841244f6f8c9d10917fa0229cd82bab67f2f8e28f",
    "kinetics600": "8dfca4202520ea8291ce0242ef33b006d0a0772b409663c090a2876bc1978dcf",
    "ucf101": "fabeefc51625dad8a5b960156ccf75eea4c3b914d95bc02b43618fd61ecd1930",
    "hmdb51": "c24c56a7af6f3ea55c8fb2a8e5b2c3a42644fcc5d86e49313536cfbd3499538a",
    "diving48": "7832becc4d9326028e29fb2cf5adaade78052030c1791784c6dffc32541fd9e9",
}


COUNTS = {"kinetics400": 400, "kinetics600": 600, "ucf101": 101, "hmdb51": 51, "diving48": 48}


@pytest.mark.parametrize(("benchmark", "count"), COUNTS.items())
def test_tables(benchmark: str, count: int) -> None:
    names = class_names(benchmark)
    assert len(names) == len(set(names)) == len({spelling(name) for name in names}) == count
    assert hashlib.sha256("".join(f"{name}\n" for name in names).encode()).hexdigest() == SHA256[benchmark]


def test_some_labels() -> None:
    assert set(TABLES) == set(COUNTS)
    assert (class_names("kinetics400")[0], class_names("kinetics400")[399]) == ("abseiling", "zumba")
    assert class_names("ucf101")[36] == "HandstandPushups"
    assert class_names("diving48")[47] == "Reverse+Dive+NoTwis+TUCK"
    with pytest.raises(
        ValueError, match="no table of classes called 'ssv2': choose from diving48, hmdb51, kinetics400"
    ):
        class_names("ssv2")


def test_spelling() -> None:
    assert spelling("massaging_person's_head") == spelling("massaging person's head") == "massagingpersonshead"
    assert spelling("HandStandPushups") == spelling("HandstandPushups")


@pytest.mark.parametrize("benchmark", TABLES)
def test_tables_are_the_official_ones(benchmark: str, shared: Path) -> None:
    official = (shared / "labels" / f"{benchmark}.txt").read_text(encoding="utf-8").splitlines()
    assert class_names(benchmark) == tuple(official)
