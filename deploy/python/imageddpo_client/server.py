"""A reward function as a reward service (proto/imageddpo/v1/reward.proto)."""
from __future__ import annotations

import contextlib
import hmac
import os
import signal
import sys
import threading
import traceback
from concurrent import futures
from typing import Any, Callable, List, Optional, Sequence, Tuple

import grpc

from . import messages, scores
from .scores import InvalidInput

API_VERSION = 1
_MOST_WAITING = 128  # Calls beyond the first `threads`; more are told to come back later.
_SPARE_THREADS = 8   # For health and description while all others wait.
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"  # grpc.health.v1.HealthCheckResponse

RewardFunction = Callable[[Any, List[str], List[dict]], Any]


class RewardServer:
    """Serves a reward function in the background; serve() explains the settings.

        with RewardServer(fn, "127.0.0.1:0") as server:
            print(server.address)
    """

    def __init__(self, fn: RewardFunction, address: str = "127.0.0.1:50061", *, name: Optional[str] = None,
                 version: str = "", images: str = "numpy", pixels: str = "uint8", inputs: bool = False,
                 targets: bool = False, max_batch: int = 0, parts: Sequence[str] = (), deterministic: bool = True,
                 threads: int = 1, token: Optional[str] = None,
                 tls: Optional[Tuple[os.PathLike, os.PathLike]] = None, grace_seconds: float = 10):
        if images not in scores.IMAGES:
            raise ValueError(f"images is {images!r}; it must be one of {', '.join(scores.IMAGES)}")
        if pixels not in scores.PIXELS:
            raise ValueError(f"pixels is {pixels!r}; it must be one of {', '.join(scores.PIXELS)}")
        if threads < 1:
            raise ValueError(f"threads is {threads}; it must be at least 1")
        if token is not None and tls is None and not _is_local(address):
            raise ValueError("a token without TLS would cross the network readably; give tls=(certificate, key) too")
        self.fn, self.images, self.token = fn, images, token
        self.name = name or getattr(fn, "__name__", "reward")
        self.grace_seconds = grace_seconds
        self.description = messages.message("DescribeResponse")(
            api_version=API_VERSION, name=self.name, version=version, wants_inputs=inputs, wants_targets=targets,
            wants_prompts=True, wants_labels=True, wants_metadata=True, pixels=scores.PIXELS[pixels],
            max_batch=max_batch, part_names=sorted(parts), nondeterministic=not deterministic)
        self._turn = threading.Semaphore(threads)
        self._lock = threading.Lock()
        self._calls, self._most_calls = 0, threads + _MOST_WAITING
        self._serving = True
        self._server = grpc.server(
            futures.ThreadPoolExecutor(threads + _MOST_WAITING + _SPARE_THREADS, thread_name_prefix="reward"),
            options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1),
                     ("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((
            _handlers("imageddpo.v1.RewardService", {
                "Describe": self._unary("DescribeRequest", self._describe),
                "Score": self._unary("ScoreRequest", self._score)}),
            _handlers("grpc.health.v1.Health", {
                "Check": grpc.unary_unary_rpc_method_handler(
                    lambda request, context: _SERVING if self._serving else _NOT_SERVING)})))
        self.address = self._bind(address, tls)

    def _bind(self, address: str, tls: Optional[Tuple[os.PathLike, os.PathLike]]) -> str:
        try:
            if tls is None:
                port = self._server.add_insecure_port(address)
            else:
                certificate, key = (open(path, "rb").read() for path in tls)
                credentials = grpc.ssl_server_credentials([(key, certificate)])
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen at {address}: {error}") from None
        if port == 0:
            raise OSError(f"cannot listen at {address}; does another process?")
        return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"

    def start(self) -> "RewardServer":
        self._server.start()
        return self

    def stop(self) -> None:
        """Takes no new calls, lets those under way end within grace_seconds, and returns."""
        self._serving = False
        self._server.stop(self.grace_seconds).wait()
        if self.address.startswith("unix:"):
            with contextlib.suppress(OSError):
                os.unlink(self.address[len("unix:"):])

    def __enter__(self) -> "RewardServer":
        return self.start()

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def _unary(self, request_name: str, method: Callable) -> Any:
        def checked(request: Any, context: grpc.ServicerContext) -> Any:
            self._check_token(context)
            if request.api_version != API_VERSION:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION,
                              f"this reward speaks version {API_VERSION} of the API, not {request.api_version}; "
                              "install the imageddpo_client of the service's version")
            return method(request, context)
        return grpc.unary_unary_rpc_method_handler(
            checked, request_deserializer=messages.message(request_name).FromString,
            response_serializer=lambda response: response.SerializeToString())

    def _check_token(self, context: grpc.ServicerContext) -> None:
        if self.token is None:
            return
        given = dict(context.invocation_metadata()).get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "wrong token" if given else "no token was sent")

    def _describe(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self.description

    def _score(self, request: Any, context: grpc.ServicerContext) -> Any:
        with self._lock:
            self._calls += 1
            too_many = self._calls > self._most_calls
        try:
            if too_many:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{self._most_calls} batches wait already")
            with self._turn:
                if not context.is_active():  # Given up while it waited.
                    context.abort(grpc.StatusCode.CANCELLED, "the caller has gone")
                return self.answer(request, context)
        finally:
            with self._lock:
                self._calls -= 1

    def answer(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Scores one batch: what a ScoreRequest asks as a ScoreResponse."""
        response = messages.message("ScoreResponse")(version=self.description.version)
        size = len(request.items)
        try:
            generated = scores.planes(request, request.generated, request.generated_png)
            inputs = targets = None
            if self.description.wants_inputs:
                inputs = scores.convert(scores.planes(request, request.inputs, request.inputs_png), self.images)
            if self.description.wants_targets:
                targets = scores.convert(scores.planes(request, request.targets, request.targets_png), self.images)
            prompts = [item.prompt for item in request.items]
            metadata = scores.metadata_of(request, inputs, targets)
            values, parts = scores.unpack(self.fn(scores.convert(generated, self.images), prompts, metadata), size)
        except InvalidInput as error:
            values, parts = [error] * size, {name: [None] * size for name in self.description.part_names}
        except Exception as error:  # pylint: disable=broad-except
            traceback.print_exc()
            context.abort(grpc.StatusCode.INTERNAL, scores.last_line(error))
        scores.fill(response, values, parts)
        return response


def _handlers(service: str, methods: dict) -> Any:
    return grpc.method_handlers_generic_handler(service, methods)


def _is_local(address: str) -> bool:
    host = address.rpartition(":")[0].strip("[]")
    return address.startswith("unix:") or host in ("localhost", "::1") or host.startswith("127.")


def serve(fn: RewardFunction, address: str = "127.0.0.1:50061", **settings: Any) -> None:
    """Makes fn the reward at `address` (HOST:PORT or unix:PATH) until SIGTERM or Ctrl-C.

    fn(images, prompts, metadata) gets a batch of N images and returns N values, more is better:
      images    [N,3,H,W] float32 in [0,1]; another form with the setting `images`
      prompts   N texts
      metadata  N dictionaries: the other keys of the image's line in metadata.jsonl, its "id", its "label" if it has
                one; with inputs=True "input_image", with targets=True "target_image", in the form of images[i]
    It returns a list, an array or a tensor of N numbers; (values, parts) with parts a dictionary of N numbers by name,
    which become metrics; or a list of dictionaries with "value" and parts. In place of a number, an exception is an
    error of that image alone. An exception that fn raises is an error of the batch, which the job asks for again a few
    times; InvalidInput is not asked for again. Then the job ends, or with on_error: drop goes on without these images.

    Settings:
      name, version   shown to the job; another version of the reward has to have another text as its version
      images          "numpy"; "torch": the same as a tensor; "pil": N images of Pillow; "uint8": [N,H,W,3] bytes
      pixels          how they travel: "uint8"; "float32": unrounded, four times the bytes; "png": for slow networks
      inputs, targets whether fn wants the images that sampling started from, or the data's targets
      max_batch       at most so many images a call; 0: as many as the job samples together
      parts           names of the parts, where the first answer should not tell
      deterministic   False: the same images may get other values; the job then has a warning
      threads         calls of fn at the same time; others wait for their turn
      token, tls      what callers have to send; (certificate, key) as PEM files
      grace_seconds   how long calls under way may take after SIGTERM
    """
    server = RewardServer(fn, address, **settings)
    stopped = threading.Event()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopped.set())
    server.start()
    print(f"reward {server.name!r} serves at {server.address}", file=sys.stderr, flush=True)
    while not stopped.wait(1):  # In pieces, so that signals are handled everywhere.
        pass
    server.stop()
