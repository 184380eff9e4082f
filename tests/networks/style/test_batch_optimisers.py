"""Batched optimisers: each row as torch's own optimiser takes it alone, and no row touched by another."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.networks.style.batch_optimisers import Evaluate, adam, lbfgs

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, ROWS, STEPS = 12, 5, 9


def bowls(rows: int = ROWS, condition: float = 30.0) -> tuple[Tensor, Tensor, Tensor]:
    """Quadratics 1/2 x^T A x - b^T x, every row another one: A [N, D, D], b [N, D], starts [N, D]; float64."""
    generator = torch.Generator().manual_seed(3)
    turns = torch.linalg.qr(torch.randn(rows, SIZE, SIZE, dtype=torch.float64, generator=generator))[0]
    scales = torch.logspace(0, math.log10(condition), SIZE, dtype=torch.float64)
    bases = torch.rand(rows, 1, dtype=torch.float64, generator=generator) + 0.5
    curvature = turns @ torch.diag_embed(bases * scales) @ turns.mT
    offset, start = torch.randn(2, rows, SIZE, dtype=torch.float64, generator=generator)
    return curvature, offset, start


def quadratic(curvature: Tensor, offset: Tensor) -> Evaluate:
    def evaluate(points: Tensor) -> tuple[Tensor, Tensor]:
        pulled = torch.einsum("nij,nj->ni", curvature, points)
        return (points * pulled / 2 - offset * points).sum(dim=1), pulled - offset

    return evaluate


def rosenbrock(points: Tensor) -> tuple[Tensor, Tensor]:
    x, y = points.unbind(dim=1)
    slopes = torch.stack([-2 * (1 - x) - 400 * x * (y - x**2), 200 * (y - x**2)], dim=1)
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2, slopes


def torch_alone(
    kind: type[torch.optim.Optimizer], curvature: Tensor, offset: Tensor, start: Tensor, **options
) -> Tensor:
    """One row, by torch's optimiser, for as many steps of one evaluation each as `options` say."""
    point = start.clone().requires_grad_()
    steps = options.pop("steps", 1)
    optimiser = kind([point], **options)

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = point @ curvature @ point / 2 - offset @ point
        loss.backward()
        return loss

    for _ in range(steps):
        optimiser.step(closure)
    return point.detach()


@pytest.mark.parametrize("history", [3, 10])
@pytest.mark.parametrize("steps", [1, 2, 5, STEPS])
def test_each_row_goes_where_torch_takes_it_alone(steps: int, history: int) -> None:
    curvature, offset, start = bowls()
    found, losses = lbfgs(quadratic(curvature, offset), start, steps, history, backtracking=False)
    for row in range(ROWS):
        wanted = torch_alone(
            torch.optim.LBFGS,
            curvature[row],
            offset[row],
            start[row],
            lr=1,
            max_iter=steps,
            max_eval=1000,
            history_size=history,
            tolerance_grad=0,
            tolerance_change=0,
        )
        assert (wanted - start[row]).norm() > 0.01
        torch.testing.assert_close(found[row], wanted, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(losses, quadratic(curvature, offset)(found)[0])


def test_backtracking_that_refuses_nothing_changes_nothing() -> None:
    curvature, offset, start = bowls(condition=3.0)
    evaluate = quadratic(curvature, offset)
    free, _ = lbfgs(evaluate, start, STEPS, backtracking=False)
    held, _ = lbfgs(evaluate, start, STEPS)
    torch.testing.assert_close(held, free)


def test_a_quadratic_is_solved() -> None:
    curvature, offset, start = bowls(condition=1000.0)
    found, _ = lbfgs(quadratic(curvature, offset), start, 150)
    torch.testing.assert_close(found, torch.linalg.solve(curvature, offset), atol=1e-6, rtol=1e-6)


def test_backtracking_finds_the_end_of_a_bent_valley_and_never_rises() -> None:
    start = torch.tensor([[-1.2, 1.0], [3.0, -4.0], [0.0, 5.0], [8.0, 8.0]], dtype=torch.float64)
    losses = torch.stack([lbfgs(rosenbrock, start, steps)[1] for steps in range(0, 118, 9)])
    assert (losses.diff(dim=0) <= 0).all()
    assert (losses[-1] < 1e-8).all()


def test_a_step_is_one_evaluation() -> None:
    calls = []

    def counted(points: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(len(points))
        return rosenbrock(points)

    lbfgs(counted, torch.zeros(3, 2), 17)
    assert calls == [3] * 18
    calls.clear()
    adam(counted, torch.zeros(3, 2), 17, 0.01)
    assert calls == [3] * 17


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
def test_a_row_is_the_same_to_the_last_bit_in_any_company(method: str) -> None:
    curvature, offset, start = (part.float() for part in bowls(8))

    def solved(rows: list[int]) -> Tensor:
        # Row by row, so that what is left to depend on the company is the optimiser.
        def evaluate(points: Tensor) -> tuple[Tensor, Tensor]:
            each = [
                quadratic(curvature[[row]], offset[[row]])(point[None]) for row, point in zip(rows, points, strict=True)
            ]
            return torch.cat([loss for loss, _ in each]), torch.cat([gradient for _, gradient in each])

        if method == "lbfgs":
            return lbfgs(evaluate, start[rows], 30)[0]
        return adam(evaluate, start[rows], 30, 0.05)[0]

    together = solved(list(range(8)))
    assert torch.equal(solved([7, 6, 5, 4, 3, 2, 1, 0]).flip(0), together)
    for row in (0, 5):
        assert torch.equal(solved([row])[0], together[row])


def test_a_row_that_is_not_finite_stays_and_leaves_the_others_alone() -> None:
    start = torch.tensor([[-1.2, 1.0], [math.nan, 0.0], [3.0, -4.0]], dtype=torch.float64)
    found, losses = lbfgs(rosenbrock, start, 40)
    fine, _ = lbfgs(rosenbrock, start[[0, 2]], 40)
    assert torch.equal(found[[0, 2]], fine)
    assert losses[1].isnan() and found[1, 1] == 0


def test_a_cliff_of_infinity_is_backed_away_from() -> None:
    def walled(points: Tensor) -> tuple[Tensor, Tensor]:
        losses, slopes = points[:, 0] - points[:, 0].log(), 1 - 1 / points
        return torch.where(points[:, 0] > 0, losses, math.inf), slopes

    start = torch.tensor([[30.0], [0.01]], dtype=torch.float64)
    found, _ = lbfgs(walled, start, 60)
    torch.testing.assert_close(found, torch.ones_like(start), atol=1e-5, rtol=1e-5)
    loose, _ = lbfgs(walled, start, 60, backtracking=False)
    assert loose[0] < 0


def test_a_row_that_is_done_stays_done() -> None:
    curvature, offset, _ = bowls()
    solution = torch.linalg.solve(curvature, offset)
    found, losses = lbfgs(quadratic(curvature, offset), solution, 20)
    torch.testing.assert_close(found, solution, atol=1e-9, rtol=1e-9)
    assert losses.isfinite().all()
    flat, _ = lbfgs(lambda points: (points.new_zeros(len(points)), torch.zeros_like(points)), solution, 5)
    assert torch.equal(flat, solution)


def test_adam_goes_where_torch_takes_it() -> None:
    curvature, offset, start = bowls()
    found, _ = adam(quadratic(curvature, offset), start, STEPS, 0.05)
    for row in range(ROWS):
        wanted = torch_alone(torch.optim.Adam, curvature[row], offset[row], start[row], lr=0.05, steps=STEPS)
        torch.testing.assert_close(found[row], wanted, atol=1e-10, rtol=1e-10)
