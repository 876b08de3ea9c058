"""What training and evaluation have in common about W&B."""

import os
from functools import cache

from vgg.core.errors import UserError, require
from vgg.core.paper import rows_of
from vgg.launch.processes import QUIET_WANDB


def quiet() -> None:
    """Before W&B is imported; what the environment says already stands."""
    os.environ.update(QUIET_WANDB | os.environ)


def require_login() -> None:
    """Raise UserError where W&B has no key of this user; nobody is asked for one."""
    quiet()
    import wandb

    try:
        known = wandb.login(prompt=False, verify=False)
    except wandb.Error as error:
        raise UserError(f"W&B does not take the key it has ({error}): wandb login") from error
    require(known, "W&B does not know you: wandb login, and the same command again; logger=offline needs no account")


def failures() -> tuple[type[Exception], ...]:
    """What W&B raises where it fails: its API's errors are a kind of their own."""
    import wandb
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    return wandb.Error, WandbApiFailedError


def first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def failure(error: Exception) -> str:
    """What W&B's failure means for a command, in a line."""
    return f"W&B failed ({first_line(error)}). logger=offline writes files for wandb sync, logger=csv does without"


def identifier(run: str) -> str:
    """A run's id in W&B, and the name of its weights there: digits/D-jitter is digits-D-jitter."""
    return run.replace("/", "-")


@cache
def depth(model: str) -> int | None:
    """Weight layers of a column of Table 1; None for another net."""
    return next((row.weight_layers for row in rows_of("Table 1") if row.net == model), None)
