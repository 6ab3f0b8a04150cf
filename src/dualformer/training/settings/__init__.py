"""The settings of a training run, group by group; `TrainConfig` is all of them."""
