"""All settings of a training run in one frozen dataclass."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualformer.files import write_json
from dualformer.training.settings.augmentation_settings import AugmentationSettings
from dualformer.training.settings.data_settings import DataSettings
from dualformer.training.settings.loss_settings import LossSettings
from dualformer.training.settings.mixing_settings import MixingSettings
from dualformer.training.settings.network_settings import RANDOM, NetworkSettings
from dualformer.training.settings.optimizer_settings import OptimizerSettings
from dualformer.training.settings.run_settings import HardwareSettings, OutputSettings
from dualformer.training.settings.teacher_settings import TeacherSettings, scores_file
from dualformer.urls import without_credentials
from dualformer.weights.exported.exported_files import is_exported
from dualformer.weights.locate import find_local_weights

FOUND = ("decoder", "root")
"""What the config of a run holds besides settings: what decoded its videos, and the folder that it was started in."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(
    OutputSettings,
    HardwareSettings,
    MixingSettings,
    AugmentationSettings,
    TeacherSettings,
    LossSettings,
    OptimizerSettings,
    NetworkSettings,
    DataSettings,
):
    """The settings of a run, group by group (the last base's come first in the help).

    What is left open is filled in when the run begins; the result is written beside it and read again by resume.
    """

    def __post_init__(self) -> None:
        if not self.data and not self.resume:
            raise ValueError("`data` is missing: name a folder with one subfolder per class, or a CSV (path,label,…)")
        if isinstance(self.data, (str, os.PathLike)) and self.data:  # the command line marks what is missing
            object.__setattr__(self, "data", str(without_credentials(self.data)))  # what is secret is in no config
        self.check_data()
        self.check_network()
        self.check_steps()
        self.check_augment()
        self.check_mixing()
        self.check_teach()
        self.check_loss(self.data, teaches=self.teaches, confusion_every=self.confusion_every)
        self.check_machine()
        self.check_record()
        for name, other, why in (
            ("overfit", "patience", "validates on the videos that it trains on, which never tell when to stop"),
            ("folds", "patience", "measures each run by videos that must not decide where it ends"),
            ("folds", "overfit", "measures each run by videos that it has not seen"),
        ):
            if getattr(self, name) and getattr(self, other):
                raise ValueError(f"`{name}` {why}: leave `{other}` out")
        if self.folds and self.select == "best":
            raise ValueError("`folds` measures each run by videos that must not choose its epoch: say `select=last`")

    def check_files(self) -> None:
        """Checks that weights and scores which the run needs are there, quickly: nothing is fetched or opened.

        Errors: as `find_local_weights` and `scores_file`.
        """
        if self.start not in (None, RANDOM) and not self.resume:
            find_local_weights(self.start)
        if self.teacher and not Path(self.teacher).exists() and not is_exported(self.teacher):
            find_local_weights(self.teacher)
        if self.teacher_scores:
            scores_file(Path(self.teacher_scores))

    def without_augmentation(self) -> TrainConfig:
        """The same run on clips as they are."""
        return self.replace(**_PLAIN)

    def replace(self, **changes: Any) -> TrainConfig:
        return dataclasses.replace(self, **changes)

    def save(self, path: Path, **found: str) -> None:
        """Writes the settings down, and besides them what was ``found`` and belongs to the result."""
        write_json(path, dataclasses.asdict(self) | found, ensure_ascii=True)

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        data = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(data, dict):
            for name in FOUND:
                data.pop(name, None)  # no setting
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(data, Mapping) or set(data) - known:
            raise ValueError(f"{path} is not the config of a training run of this version; start a new run elsewhere")
        return cls(**data)


_PLAIN: dict[str, Any] = {
    **{field.name: field.default for field in dataclasses.fields(AugmentationSettings)},
    **{field.name: field.default for field in dataclasses.fields(MixingSettings)},
    "flip": "off",
    "min_area": 1.0,
}
