"""Views through a network in batches, and their average."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dualformer.scoring.view_scores import average_views, view_probabilities
from dualformer.video.preprocessing import kinetics

PRE = kinetics(frames=4, stride=2, size=32)


def test_no_more_views_go_through_the_network_at_a_time_than_asked() -> None:
    sizes: list[int] = []

    def network(video: Tensor) -> Tensor:
        sizes.append(len(video))
        return video.flatten(1)[:, :3]

    views = torch.zeros(7, 4, 8, 8, 3, dtype=torch.uint8)
    view_probabilities(network, views, PRE, device=torch.device("cpu"), batch_size=3)
    assert sizes == [3, 3, 1]
    with pytest.raises(ValueError, match="at least one view"):
        view_probabilities(network, views, PRE, device=torch.device("cpu"), batch_size=0)


def test_the_average_is_over_the_views_of_tensors_and_arrays() -> None:
    scores = torch.rand(2, 12, 5)
    assert torch.equal(average_views(scores), scores.mean(dim=1))
    assert np.array_equal(average_views(scores.numpy()), scores.numpy().mean(axis=1))
    assert np.array_equal(average_views(scores[0].numpy()), scores[0].numpy().mean(axis=0))
