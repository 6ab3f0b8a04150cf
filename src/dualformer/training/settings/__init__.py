"""What a training run can be told, theme by theme; `TrainConfig` is all of them."""
