"""Rewards in Python for imageddpo, and a client of its service.

    serve(fn)       makes a function of images, prompts and metadata the reward of a job
    RewardServer    the same, in the background
    Client          submits and watches jobs
"""
from .client import Client, Event, Job, ServiceError
from .server import InvalidInput, RewardServer, serve

__all__ = ["Client", "Event", "InvalidInput", "Job", "RewardServer", "ServiceError", "serve"]
__version__ = "0.1.0"
