"""The error tree. What went wrong decides who carries on.

PalimpsestError
├── JobError          stop: the recipe, the input, the key or the data set is wrong (exit 2, one line)
│   ├── RecipeError   a field of the recipe
│   ├── InputError    shards, columns, schemas, URIs
│   ├── ModelError    a model file is missing, unsafe or of another architecture
│   └── ConflictError the output holds something this plan did not make
├── UnitError         retry the unit; after its last attempt it goes to `_failed/`
└── RowError          record the row with a code (quarantine) and go on
"""


class PalimpsestError(Exception):
    """Root of every error this product raises on purpose."""


class JobError(PalimpsestError):
    """The whole job cannot go on. The message names the field, the value and the remedy."""


class RecipeError(JobError):
    """A recipe field is unknown, missing or out of range."""


class InputError(JobError):
    """The input cannot be found, read or understood."""


class ModelError(JobError):
    """A model file is missing, not safe to load, or of another architecture."""


class ConflictError(JobError):
    """The output already holds a unit of another plan, or a file that no marker names."""


class UnitError(PalimpsestError):
    """One unit failed for a reason that another attempt may cure."""


class RowError(PalimpsestError):
    """One source row cannot be used.

    Args:
        code: short, stable, snake_case: `decode_failed`, `too_large`, `empty`, ...
        message: what a person needs to find and mend the row.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"
