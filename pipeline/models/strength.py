"""How many steps an edit runs. Arithmetic alone: a plan checks it without torch."""

_ROUNDING = 1e-9  # 0.29 * 100 is 28.999999999999996


def steps_run(steps: int, strength: float) -> int:
    """How many of `steps` an edit of this strength runs: int(steps * strength), as SDEdit pipelines count.

    Raises ValueError where that is none; the message names the smallest strength that runs one.
    """
    run = int(steps * strength + _ROUNDING)
    if run < 1:
        raise ValueError(
            f"strength {strength:g} of {steps} steps runs no step; the smallest usable strength is {1 / steps:.6g}"
        )
    return run
