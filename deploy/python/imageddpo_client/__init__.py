"""Rewards in Python for imageddpo, and a client of its service.

    serve(fn)       makes a function of images, prompts and metadata the reward of a job
    RewardServer    the same, in the background
    Client          submits and watches jobs
    follow(...)     forwards a job's numbers to a tracker; to_wandb() and to_mlflow() to these
"""
from .client import Client, Event, Job, ServiceError
from .follow import follow, to_mlflow, to_wandb, trl_names
from .server import InvalidInput, RewardServer, serve
from .settings import Violation

__all__ = ["Client", "Event", "InvalidInput", "Job", "RewardServer", "ServiceError", "Violation", "follow", "serve",
           "to_mlflow", "to_wandb", "trl_names"]
__version__ = "0.1.0"
