"""The errors of this product, by what they stop: the job, the run, a unit or a row.

PalimpsestError
├── JobError          stop: the recipe, the input, the key or the data set is wrong (exit 2, one line)
│   ├── RecipeError   a field of the recipe
│   ├── InputError    shards, columns, schemas, URIs
│   ├── ModelError    a model file is missing, unsafe or of another architecture
│   └── ConflictError the output holds something this plan did not make
├── RunError          stop: what was asked for is right, and the run cannot go on (exit 1, one line)
│   ├── BudgetError   more rows or units failed than the recipe allows, or a branch made nothing
│   └── StorageError  the storage of the output failed: a full disk, a lost mount, a bucket that is gone
├── UnitError         retry the unit; after its last attempt it goes to `_failed/`
└── RowError          record the row with a code (quarantine) and go on

Every message is one line of a few hundred characters (`pipeline.messages.one_line`), whatever data it was made of.
"""

from pipeline.messages import one_line


class PalimpsestError(Exception):
    """Root of every error this product raises on purpose."""

    def __init__(self, *parts: object) -> None:
        super().__init__(*map(one_line, parts))


class JobError(PalimpsestError):
    """The whole job cannot go on. The message names the field, the value and the remedy."""


class RecipeError(JobError):
    """A recipe field is unknown, missing or out of range."""


class InputError(JobError):
    """The input cannot be found, read or understood."""


class ModelError(JobError):
    """A model file is missing, not safe to load, or of another architecture."""


class ConflictError(JobError):
    """The output already holds a unit of another plan, or a file that no record names."""


class RunError(PalimpsestError):
    """The run cannot go on, though recipe and input are right. The message tells why, and the remedy."""


class BudgetError(RunError):
    """More rows or units failed than `quality` in the recipe allows, or a branch made nothing.

    Args:
        branch: whose rows are at fault; None where units are.
    """

    def __init__(self, message: str, branch: str | None = None) -> None:
        super().__init__(message)
        self.branch = branch


class StorageError(RunError):
    """The storage of the output failed. Run the same command again once it is repaired."""


class UnitError(PalimpsestError):
    """One unit failed; another attempt may succeed."""


class RowError(PalimpsestError):
    """One source row cannot be used.

    Args:
        code: short, stable, snake_case: `decode_failed`, `too_large`, `empty`, ...
        message: what a person needs to find and mend the row.

    Attributes:
        part: operator or gate that failed; None where the row itself is at fault.
        story: the traceback of what failed, as text; empty where nothing was raised.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code, self.message = (str(part) for part in self.args)
        self.part: str | None = None
        self.traceback_text = ""

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
