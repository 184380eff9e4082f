"""L-BFGS and Adam for N independent problems at once: points [N, D], each with its own history and step length.

`evaluate` takes points [N, D] and returns losses [N] and gradients [N, D], row by row. Every step costs one evaluation
of every row, so the cost is known beforehand. No row can influence another one: inner products
are summed in float64, since float32 sums change in the last digit with the number of rows and a long optimisation
makes that visible.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Evaluate = Callable[[Tensor], tuple[Tensor, Tensor]]
HISTORY = 10
SUFFICIENT = 1e-4  # c1 of Nocedal & Wright 2006, equation 3.4
CURVATURE = 1e-10  # least cosine between step and change of gradient for a pair to be remembered
SHORTEST, LONGEST = 0.1, 0.5  # a refused step is shortened to between these shares of itself
MAX_REFUSED = 8  # refusals in a row after which a row forgets its history
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam


def lbfgs(
    evaluate: Evaluate, start: Tensor, steps: int, history: int = HISTORY, backtracking: bool = True
) -> tuple[Tensor, Tensor]:
    """Points [N, D] and their losses [N] after `steps` steps of L-BFGS from `start` [N, D]; steps + 1 evaluations.

    Nocedal & Wright 2006, "Numerical Optimization", algorithms 7.4 (two loops) and 3.1 (backtracking), for each row
    alone. A step that does not lower a row's loss enough (or makes it not finite) is refused and costs a step; the
    next one is shorter. Without backtracking every step is taken at length 1, the first one at min(1, 1 / |g|_1).
    A row whose loss is not finite at the start stays where it is.
    """
    points = start.clone()
    losses, gradients = evaluate(points)
    memory = _Memory(history, points)
    lengths, refused = _first_length(gradients), torch.zeros_like(memory.count)
    for _ in range(steps):
        directions = memory.direction(gradients)
        slopes = _dots(gradients, directions)
        uphill = ~(slopes < 0)
        memory.forget(uphill)
        directions = torch.where(uphill[:, None], -gradients, directions)
        slopes = torch.where(uphill, -_dots(gradients, gradients), slopes)
        lengths = torch.where(uphill, _first_length(gradients), lengths)
        moves = lengths[:, None] * directions
        new_losses, new_gradients = evaluate(points + moves)
        taken = torch.ones_like(uphill)
        if backtracking:
            finite = new_losses.isfinite() & new_gradients.isfinite().all(dim=1)
            taken = finite & (new_losses <= losses + SUFFICIENT * lengths * slopes)
        memory.remember(taken, moves, new_gradients - gradients)
        shorter = _shortened(lengths, losses, new_losses, slopes)
        refused = torch.where(taken, 0, refused + 1)
        lost = refused == MAX_REFUSED
        memory.forget(lost)
        kept = taken[:, None]
        points = torch.where(kept, points + moves, points)
        losses = torch.where(taken, new_losses, losses)
        gradients = torch.where(kept, new_gradients, gradients)
        lengths = torch.where(taken, torch.where(memory.count > 0, 1.0, _first_length(gradients)), shorter)
        lengths = torch.where(lost, _first_length(gradients), lengths)
    return points, losses


def adam(evaluate: Evaluate, start: Tensor, steps: int, learning_rate: float) -> tuple[Tensor, Tensor]:
    """Points [N, D] after `steps` steps of Adam, and their losses [N] before the last one; `steps` evaluations.

    Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", algorithm 1, with its constants.
    """
    points = start.clone()
    losses = points.new_zeros(len(points))
    first, second = torch.zeros_like(points), torch.zeros_like(points)
    for step in range(1, steps + 1):
        losses, gradients = evaluate(points)
        first = BETAS[0] * first + (1 - BETAS[0]) * gradients
        second = BETAS[1] * second + (1 - BETAS[1]) * gradients.square()
        spread = (second / (1 - BETAS[1] ** step)).sqrt() + EPSILON
        points = points - learning_rate / (1 - BETAS[0] ** step) * first / spread
    return points, losses


class _Memory:
    """The last steps s and changes of gradient y of each row, in rings [size, N, D] that turn row by row."""

    def __init__(self, size: int, like: Tensor) -> None:
        self._size, rows = size, len(like)
        self._moves, self._changes = like.new_zeros(size, *like.shape), like.new_zeros(size, *like.shape)
        self._rho = like.new_zeros(size, rows)
        self._scale = like.new_ones(rows)
        self._rows = torch.arange(rows, device=like.device)
        self._next = torch.zeros_like(self._rows)
        self.count = torch.zeros_like(self._rows)  # pairs a row remembers, [N]

    def remember(self, taken: Tensor, moves: Tensor, changes: Tensor) -> None:
        """Keep a pair of each row that took its step, where the curvature along it is positive."""
        products, squares = _dots(moves, changes), _dots(changes, changes)
        sizes = (squares * _dots(moves, moves)).sqrt()
        rows = (taken & (products > CURVATURE * sizes)).nonzero()[:, 0]
        places = self._next[rows]
        self._moves[places, rows], self._changes[places, rows] = moves[rows], changes[rows]
        self._rho[places, rows] = 1 / products[rows]
        self._scale[rows] = products[rows] / squares[rows]
        self._next[rows] = (places + 1) % self._size
        self.count[rows] = (self.count[rows] + 1).clamp(max=self._size)

    def forget(self, rows: Tensor) -> None:
        """Empty the memory of the rows where this is true."""
        self.count = torch.where(rows, 0, self.count)
        self._scale = torch.where(rows, 1.0, self._scale)

    def direction(self, gradients: Tensor) -> Tensor:
        """-H g [N, D]; -g where a row remembers nothing."""
        found, seen = gradients.clone(), []
        for age in range(1, int(self.count.max()) + 1):
            places = (self._next - age) % self._size
            move, change = self._moves[places, self._rows], self._changes[places, self._rows]
            rho = torch.where(age <= self.count, self._rho[places, self._rows], 0.0)
            share = rho * _dots(move, found)
            found = found - share[:, None] * change
            seen.append((move, change, rho, share))
        found = self._scale[:, None] * found
        for move, change, rho, share in reversed(seen):
            found = found + (share - rho * _dots(change, found))[:, None] * move
        return -found


def _first_length(gradients: Tensor) -> Tensor:
    """min(1, 1 / |g|_1) [N]: nothing is known of the curvature yet, so the first step is short."""
    sizes = gradients.abs().sum(dim=1, dtype=torch.float64).to(gradients.dtype)
    return (1 / sizes.clamp_min(torch.finfo(sizes.dtype).tiny)).clamp(max=1.0)


def _shortened(lengths: Tensor, losses: Tensor, new_losses: Tensor, slopes: Tensor) -> Tensor:
    """Where the parabola through both losses and the slope is least (equation 3.57), within bounds; [N]."""
    minimum = -slopes * lengths.square() / (2 * (new_losses - losses - slopes * lengths))
    bounded = torch.minimum(torch.maximum(minimum, SHORTEST * lengths), LONGEST * lengths)
    return torch.where(bounded.isfinite(), bounded, SHORTEST * lengths)


def _dots(one: Tensor, other: Tensor) -> Tensor:
    return (one.double() * other.double()).sum(dim=1).to(one.dtype)
