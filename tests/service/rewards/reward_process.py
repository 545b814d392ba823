"""A reward of the tests: the mean of each image, and what is asked for besides.

    reward_process.py ADDRESS [FAULT [CALL]]     FAULT: a name below (token,CERTIFICATE,KEY: over TLS), from the CALL-th call of Score on (default: 1)
"""
import os
import signal
import sys
import threading
import time

import numpy as np
from imageddpo_client import RewardServer

address, (fault, *tls), first = sys.argv[1], (sys.argv[2:3] or [""])[0].split(","), int((sys.argv[3:4] or ["1"])[0])
calls = 0


def mean(images, prompts, metadata):
    """Also a part that tells whether prompts and metadata arrive."""
    assert len(prompts) == len(metadata) == len(images) and all("id" in entry for entry in metadata), (prompts, metadata)
    values = np.array([float(image.astype(np.float64).mean()) for image in images])
    part = "other" if fault == "parts" and calls >= first else "labelled"
    return values, {part: [float("label" in entry) for entry in metadata]}


class FaultyServer(RewardServer):
    def answer(self, request, context):
        global calls
        calls += 1
        if not fault or calls < first:
            return super().answer(request, context)
        if fault == "slow":
            time.sleep(0.5)
        elif fault == "too_slow":
            time.sleep(3)
        elif fault == "hangs" and calls == first:
            os.kill(os.getpid(), signal.SIGSTOP)
        elif fault == "dies":
            os._exit(1)
        elif fault == "raises_later":
            self.fn = raises
        response = super().answer(request, context)
        if fault == "nan":
            response.items[0].value = float("nan")
        elif fault == "items":
            response.items[0].error.message = "no face"
        elif fault == "few":
            del response.items[-1]
        elif fault == "large":
            response.items[0].error.message = "x" * (64 << 20)
        return response


def raises(images, prompts, metadata):
    return metadata[0]["artist"]


settings = {"name": "mean", "version": "2" if fault == "version" else "1", "token": "secret" if fault == "token" else None,
            "tls": tls or None}
server = FaultyServer(raises if fault == "raises" else mean, address, **settings)
if fault == "api":
    server.description.api_version = 7
server.start()
print(f"serves at {server.address}", file=sys.stderr, flush=True)
threading.Event().wait()
