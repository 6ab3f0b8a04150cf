import pytest
import torch
from torch.nn import functional as F

from dualformer.model.presets import create_model
from dualformer.training.losses import ClipLoss
from dualformer.training.objective import ClipObjective, MotionObjective
from dualformer.training.token_labels import map_targets, motion_targets
from dualformer.video.preprocessing import Preprocessing
from dualformer.video.transforms import normalize

PRE = Preprocessing(frames=4, resize=32, crop=32, mean=(100.0, 110.0, 120.0), std=(50.0, 51.0, 52.0))


def batch(count: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "clip": torch.randint(0, 256, (count, 4, 32, 32, 3), dtype=torch.uint8, generator=generator),
        "label": torch.arange(count) % 3,
        "moving": torch.rand(count, 4, 8, 8, generator=generator),
        "velocity": torch.randn(count, 4, 8, 8, 2, generator=generator),
    }


def model():
    return create_model("dualformer_nano", clip=(4, 32, 32), num_classes=3, seed=0, dropout=0.0)


def test_clip_objective_is_the_cross_entropy_of_the_model_on_normalised_clips():
    network, data = model(), batch()
    step = ClipObjective(network, PRE).eval()(data)
    logits = network(normalize(data["clip"], PRE))
    assert torch.equal(step.logits, logits)
    assert step.loss.item() == pytest.approx(F.cross_entropy(logits, data["label"]).item())


def test_motion_targets_by_hand():
    moving = torch.zeros(1, 2, 2, 4)
    velocity = torch.zeros(1, 2, 2, 4, 2)
    moving[0, 0, 1, 3] = 1.0  # in the first frame, in the cell at row 1, column 3 …
    velocity[0, 0, 1, 3] = torch.tensor([3.0, -6.0])  # … something moves right and, faster, up
    target = motion_targets(moving, velocity, torch.Size((1, 1, 2)), quarters=2)
    assert target.shape == (1, 1, 1, 2, 12)
    expected = torch.zeros(1, 1, 1, 2, 12)
    # Token 1 holds columns 2 and 3; its quarters go row by row, so row 1, column 3 is its last. Half of its time.
    expected[0, 0, 0, 1, 9:] = torch.tensor([0.5, 0.5, -1.0])
    assert torch.allclose(target, expected)


def test_motion_objective_starts_at_one_and_adds_to_the_clip_loss():
    objective = MotionObjective(model(), PRE, weight=2.0)
    step = objective.forward(batch())
    data = batch()
    target = motion_targets(data["moving"], data["velocity"], torch.Size((2, 1, 1)), 2)
    constant = torch.mean(torch.square(target)) / torch.var(target)
    assert step.parts["motion"].item() == pytest.approx(constant.item(), rel=1e-5)
    assert step.loss.item() == pytest.approx((step.parts["clip"] + 2 * step.parts["motion"]).item())
    step.loss.backward()
    assert objective.extra is not None
    gradient = objective.extra.get_parameter("weight").grad
    assert gradient is not None and gradient.abs().sum() > 0


def test_map_targets_by_hand():
    classes = torch.arange(2 * 2 * 4).reshape(1, 2, 2, 4)
    target = map_targets(classes, torch.Size((1, 1, 2)), quarters=2)
    # Of two frames the second stands for both; quarters go row by row.
    assert target.tolist() == [[[[[8, 9, 12, 13], [10, 11, 14, 15]]]]]


def test_maps_are_learnt_beside_motion():
    data = batch()
    data["part"] = torch.randint(0, 5, (2, 4, 8, 8), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    plain = MotionObjective(model(), PRE)(data)
    objective = MotionObjective(model(), PRE, maps={"part": 5})
    step = objective(data)
    assert step.parts["part"].item() == pytest.approx(1.0, rel=1e-5)  # guessing
    assert step.parts["motion"].item() == pytest.approx(plain.parts["motion"].item())
    assert step.loss.item() == pytest.approx(plain.loss.item() + 1.0)
    step.loss.backward()
    assert objective.extra is not None
    gradient = objective.extra.get_parameter("weight").grad
    assert gradient is not None and gradient[12:].abs().sum() > 0


@pytest.mark.parametrize("maps", [{}, {"part": 5}])
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_with_class_weights_two_batches_of_four_are_one_of_eight(maps: dict[str, int], weight: float):
    """The motion is divided by the variance of a batch, which is the same here but for the number of values."""
    loss = ClipLoss(classes=3, class_weights=torch.tensor([0.2, 1.0, 5.0]))
    network = model().eval()
    objective = MotionObjective(network, PRE, loss=loss, weight=weight, maps=maps)
    with torch.no_grad():
        for parameter in objective.extra.parameters():  # type: ignore[union-attr]  # it has one
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)) / 10)
    whole, half = batch(8), batch(4)
    whole["label"] = torch.tensor([0, 0, 1, 0, 2, 2, 1, 2])
    whole["moving"], whole["velocity"] = (half[name].repeat_interleave(2, dim=0) for name in ("moving", "velocity"))
    whole["part"] = torch.randint(0, 5, (4, 4, 8, 8), generator=torch.Generator().manual_seed(1)).repeat(2, 1, 1, 1)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    whole = {name: tensor[order] for name, tensor in whole.items()}

    def gradients(*batches: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        objective.zero_grad()
        total = 0.0
        for each in batches:
            step = objective(each)
            assert step.weight is not None
            (step.loss * step.weight).backward()
            total += float(step.weight)
        return {n: p.grad / total for n, p in objective.named_parameters() if p.grad is not None}

    once = gradients(whole)
    twice = gradients(*({name: tensor[part] for name, tensor in whole.items()} for part in (slice(4), slice(4, 8))))
    scale = max(float(gradient.abs().max()) for gradient in once.values())
    for name, gradient in once.items():
        tolerance = 1e-5 if weight == 0 else 0.02
        torch.testing.assert_close(twice[name], gradient, rtol=tolerance, atol=tolerance * scale, msg=name)
