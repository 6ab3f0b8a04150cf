"""``dualformer embed``: features of many files, in a table."""

from dataclasses import dataclass
from pathlib import Path

from dualformer.cli.predict_folder import FolderOptions, predict_folder, ray_alone
from dualformer.cli.shared_options import refuse_exported

defaults = ray_alone


@dataclass(frozen=True, kw_only=True)
class Options(FolderOptions):
    out: Path
    """The table: .npy (features alone, row by row; a CSV file beside it says which file each row is of), .parquet or
    .jsonl. Its columns: path, error, features, notes, bytes, modified, by, then those of a list of files. A second call
    does only what is new or has changed."""


def run(options: Options) -> int:
    refuse_exported(options.weights, "gives no features: embed with")
    return predict_folder(options, "features", options.out)
