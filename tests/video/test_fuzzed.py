"""Broken files of every kind decode or say why, and nothing worse; ``benchmarks/fuzz.py`` reads thousands of them."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("resource", reason="a process is given limits as Unix does it")

from fuzzing import FUZZED, Mutants, examine, mutations

from dualformer.video.container import demux


def test_broken_files_decode_or_say_why(tmp_path: Path) -> None:
    mutants = Mutants.encoded(tmp_path)
    outcomes = list(mutants.read(range(1000, 1060), seconds_limit=20, workers=1))
    assert len(outcomes) == 60
    assert {o.mutant.kind for o in outcomes} == set(mutants.whole)
    assert not [f"{o.mutant}: {o.fault}" for o in outcomes if o.fault]
    verdicts = [o.verdict for o in outcomes]
    assert set(verdicts) == {"decodes", "refused"}
    assert verdicts.count("refused") >= 20
    assert all(o.said.startswith(str(o.mutant.path)) for o in outcomes if o.verdict == "refused")
    assert outcomes[-1].memory < 1.2 * outcomes[12].memory


def test_mutants_follow_from_their_numbers(tmp_path: Path) -> None:
    mutants = Mutants.encoded(tmp_path)
    kinds = len(mutants.whole)
    ways = {mutants.mutant(i * kinds).how for i in range(20)}
    assert ways == set(mutations())
    assert {mutants.mutant(i).kind for i in range(kinds)} == set(mutants.whole) <= set(FUZZED)
    for number in range(0, 400, 7):
        mutant = mutants.write(number)
        data = mutant.path.read_bytes()
        assert data != mutants.whole[mutant.kind].read_bytes() or mutant.how in ("swapped chunks", "extreme number")
        assert mutants.write(number).path.read_bytes() == data


def test_what_must_not_happen_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fuzzer itself: it sees crashes, errors of others, and errors that do not name the file."""
    import fuzzing

    monkeypatch.setattr(fuzzing.resource, "setrlimit", lambda *_: None)
    mutants = Mutants.encoded(tmp_path)

    def no_path(*_: object) -> None:
        raise fuzzing.DualFormerError("something is wrong")

    def foreign(*_: object) -> None:
        raise IndexError("list index out of range")

    for broken, fault in ((no_path, "without the path"), (foreign, "IndexError: list index")):
        with monkeypatch.context() as patch:
            patch.setattr(fuzzing, "decode_all", broken)
            assert fault in examine((mutants, 0)).fault
    with monkeypatch.context() as patch:
        patch.setattr(fuzzing, "examine", die)
        outcome = next(mutants.read(range(5, 6), seconds_limit=20, workers=1))
    assert (outcome.verdict, outcome.mutant.number) == ("crashes", 5)


def die(_: object) -> None:
    os.abort()


def test_streams_that_turn_up_on_the_way(tmp_path: Path) -> None:
    """PyAV may stumble over them behind the last packet of a transport stream, depending on what lies in memory."""
    packet = SimpleNamespace(size=3)

    def stumble(_: object):
        yield packet
        raise IndexError("list index out of range")

    demuxed = SimpleNamespace(demux=stumble)
    video = SimpleNamespace(container=demuxed, stream=None, is_image=False, path=tmp_path, limits=None)
    assert list(demux(video)) == [packet]  # type: ignore[arg-type]  # a stand-in
