"""Which units of a plan a run makes, and whether it removes what was made of shards that changed."""

from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import numpy.typing as npt

from pipeline.errors import RecipeError
from pipeline.messages import short_repr
from pipeline.plan import Plan, Units
from pipeline.validation import nearest


@dataclass(frozen=True)
class RunOptions:
    """What a run is asked for beside its plan.

    Attributes:
        only: branches whose units are made; empty: all.
        units: names of units, or patterns with `*` and `?`, that are made, also where they are there already; empty:
            those that are not there.
        prune: remove what was made of shards that changed, or that are no longer in the input.
    """

    only: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    prune: bool = False

    @property
    def partial(self) -> bool:
        """Whether only some units are asked for, so that the data set may stay incomplete."""
        return bool(self.only or self.units)

    def check(self, plan: Plan) -> None:
        """Raise RecipeError where a branch or a unit is named that the plan does not have."""
        branches = [branch.name for branch in plan.branches]
        for name in self.only:
            if name not in branches:
                raise RecipeError(f"--only {name}: no such branch{nearest(name, branches)}")
        for pattern in self.units:
            if not any(fnmatchcase(name, pattern) for name in plan.units.names()):
                raise RecipeError(f"--units {short_repr(pattern)}: no unit of the plan has this name, or one that fits")
        if self.only and self.units and not self.chosen(plan.units, np.zeros(len(plan.units), np.bool_)).any():
            raise RecipeError(
                f"--only {' '.join(self.only)}: none of the units that --units names is of these branches"
            )

    def chosen(self, units: Units, done: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Return [N] whether each unit is to be made.

        Args:
            done: [N] whether each unit is there.
        """
        wanted = ~done
        if self.units:
            named = (any(fnmatchcase(name, pattern) for pattern in self.units) for name in units.names())
            wanted = np.fromiter(named, np.bool_, len(units))
        if self.only:
            in_branch = np.array([group.branch in self.only for group in units.groups], np.bool_)
            wanted &= in_branch[units.group]
        return wanted


EVERYTHING = RunOptions()
