"""Forwards the numbers of a job to a tracker, from any host that reaches the service."""
from __future__ import annotations

import math
from typing import Any, Callable, Dict, Mapping

from .client import Client, JobLike, _flat

# What TRL calls these numbers: its DDPOTrainer, or its GRPOTrainer where DDPO's has no such number. Names that are the
# same (reward_mean, reward_std, loss, approx_kl, clipfrac, epoch, grad_norm, learning_rate) are not listed.
_TRL = {"zero_std_ratio": "frac_reward_zero_std", "clip_fraction_high": "clip_ratio/high_mean",
        "clip_fraction_low": "clip_ratio/low_mean", "kl_to_base": "kl"}
_PARTS = "parts_mean."


def trl_names(row: Mapping[str, Any]) -> Dict[str, Any]:
    """A row of metrics.jsonl, or an epoch's numbers, under TRL's names: parts of the reward as "rewards/PART/mean"; what
    TRL has no name for keeps its own."""
    named: Dict[str, Any] = {}
    for key, value in _flat(row).items():
        if key.startswith(_PARTS):
            named[f"rewards/{key[len(_PARTS):]}/mean"] = value
        else:
            named[_TRL.get(key, key)] = value
    if "reward_mean" in named:
        named["reward"] = named["reward_mean"]
    return named


def follow(client: Client, job: JobLike, log: Callable[[Dict[str, float], int], Any], *, trl: bool = False) -> None:
    """Calls `log(numbers, step)` for every epoch and evaluation of a job, those of the past included, until the job has
    ended. The step is the number of epochs trained; an evaluation's names begin with "eval/". An epoch that runs again after a
    death has the same numbers and is not repeated."""
    newest = {"epoch": -1, "eval": -1}
    for event in client.watch(job):
        if event.kind not in newest:
            continue
        trained = int(event.data.get("epoch", 0)) + (event.kind == "epoch")
        if trained <= newest[event.kind]:
            continue
        newest[event.kind] = trained
        row = trl_names(event.data) if trl else _flat(event.data)
        if event.kind == "eval":
            row = {f"eval/{key}": value for key, value in row.items()}
        numbers = {key: float(value) for key, value in row.items() if _is_number(value)}
        log(numbers, trained)


def to_wandb(client: Client, job: JobLike, *, trl: bool = False, wandb: Any = None, **settings: Any) -> None:
    """follow() into a run of Weights & Biases with the job's id and settings. `settings` go to wandb.init()."""
    if wandb is None:
        import wandb
    current = client.get(job)
    run = wandb.init(**{"id": current.id, "name": current.name, "resume": "allow",
                        "config": current.details.get("spec", {}), **settings})
    try:
        follow(client, current, lambda numbers, step: run.log(numbers, step=step), trl=trl)
    finally:
        run.finish()


def to_mlflow(client: Client, job: JobLike, *, trl: bool = False, mlflow: Any = None, **settings: Any) -> None:
    """follow() into a run of MLflow with the job's name and settings. `settings` go to mlflow.start_run()."""
    if mlflow is None:
        import mlflow
    current = client.get(job)
    with mlflow.start_run(**{"run_name": f"{current.name} ({current.id})", **settings}):
        mlflow.log_params({key: str(value)[:500] for key, value in _flat(current.details.get("spec", {})).items()})
        follow(client, current, lambda numbers, step: mlflow.log_metrics(numbers, step=step), trl=trl)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
