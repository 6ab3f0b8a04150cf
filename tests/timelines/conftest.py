"""Three short films of colours."""

import pytest

from dualformer.datasets.segments.annotated_video import AnnotatedVideo
from made_films import made_video

PHASES = [
    [("red", 90), ("green", 61), ("black", 50), ("blue", 83)],
    [("black", 60), ("green", 70), ("red", 60)],
    [("blue", 75), ("black", 40), ("blue", 60)],
]


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[AnnotatedVideo]:
    folder = tmp_path_factory.mktemp("films")
    return [made_video(folder / f"{number}.mp4", phases) for number, phases in enumerate(PHASES)]
