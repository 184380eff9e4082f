"""Schedulers (DDIM, DDPM, DPM++ 2M, Euler, LCM, UniPC) by name, made from a pipeline's own noise schedule."""

from typing import Any

from pipeline.errors import ModelError

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "euler": ("EulerDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}
"""Name -> diffusers class, and the settings that it gets beside the pipeline's own."""


def is_flow_matching(scheduler: Any) -> bool:
    """Whether a scheduler is for flow matching (straight paths); such a model can use none of `SCHEDULERS`."""
    flow_sigmas = (
        scheduler.config.get("use_flow_sigmas") or scheduler.config.get("prediction_type") == "flow_prediction"
    )
    return hasattr(scheduler, "scale_noise") or bool(flow_sigmas)


def named_scheduler(name: str | None, own: Any, model: object) -> Any:
    """The scheduler called `name` with the betas and the prediction type of the model's own one; None keeps that.

    Args:
        model: what to call the model in an error.

    Raises:
        ModelError: the model is a flow-matching one, which keeps its own scheduler.
    """
    import diffusers

    if name is None:
        return own
    if is_flow_matching(own):
        raise ModelError(
            f"model {model}: scheduler {name!r} does not fit a flow-matching model; leave `scheduler` out to keep its "
            f"own {type(own).__name__}"
        )
    found, settings = SCHEDULERS[name]
    return getattr(diffusers, found).from_config(own.config, **settings)


def check_steps(scheduler: Any, steps: int, model: object) -> None:
    """Raise ModelError where a scheduler was distilled for fewer steps, or trained with fewer."""
    limit = scheduler.config.get("original_inference_steps") or scheduler.config.get("num_train_timesteps") or steps
    if steps > limit:
        raise ModelError(f"model {model}: {type(scheduler).__name__} takes at most {limit} steps; steps is {steps}")
