"""Cases of package.py, run by a Python that has the package."""
import contextlib
import io
import os
import signal
import subprocess
import sys
import time

import grpc
import numpy as np
from PIL import Image

from imageddpo_client import Event, InvalidInput, Job, RewardServer, messages, scores, to_mlflow, to_wandb, trl_names

Request, Response = messages.message("ScoreRequest"), messages.message("ScoreResponse")


def request(levels, **changes):
    """Images of 2×3 pixels in these greys."""
    made = Request(api_version=1, height=3, width=2, generated=b"".join(bytes([level] * 18) for level in levels))
    for i in range(len(levels)):
        made.items.add(id=f"i{i}", prompt=f"p{i}", label=i, metadata_json='{"artist": "me"}')
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def call(server, method, message, response, token=None, service="imageddpo.v1.RewardService"):
    with grpc.insecure_channel(server.address, [("grpc.max_receive_message_length", -1)]) as channel:
        stub = channel.unary_unary(f"/{service}/{method}", request_serializer=lambda m: m.SerializeToString(),
                                   response_deserializer=response.FromString)
        return stub(message, timeout=20, metadata=[("authorization", f"Bearer {token}")] if token else None)


def score(fn, message, **settings):
    with RewardServer(fn, "127.0.0.1:0", **settings) as server:
        return call(server, "Score", message, Response)


def error_of(fn, message, **settings):
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            score(fn, message, **settings)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    raise AssertionError("no error")


class Tensor:
    """Looks like torch's."""

    def __init__(self, values):
        self.values = values

    def detach(self):
        return self

    cpu = double = detach

    def is_floating_point(self):
        return True

    def numpy(self):
        return np.asarray(self.values)


def returns():
    for returned in ([1, 2.5], (1, 2.5), np.array([1, 2.5], np.float32), np.array([[1], [2.5]]), Tensor([1.0, 2.5]),
                     [Tensor(1.0), Tensor(2.5)], ([1, 2.5], {}), ([1, 2.5], None)):
        answer = score(lambda *_: returned, request([0, 1]))
        assert [item.value for item in answer.items] == [1, 2.5] and not answer.part_names, (returned, answer)
    for returned in (([1, 2.5], {"b": Tensor([3.0, 4.0]), "a": [5, 6]}),
                     [{"value": 1, "a": 5, "b": 3}, {"value": 2.5, "b": 4, "a": 6}]):
        answer = score(lambda *_: returned, request([0, 1]))
        assert list(answer.part_names) == ["a", "b"] and list(answer.items[1].parts) == [6, 4], (returned, answer)
    answer = score(lambda *_: ([1, 2], {"all": 7}), request([0, 1]))
    assert [list(item.parts) for item in answer.items] == [[7], [7]], answer


def errors():
    answer = score(lambda *_: [1, ValueError("odd"), None, InvalidInput("no face")], request([0, 1, 2, 3]))
    assert [item.HasField("value") for item in answer.items] == [True, False, False, False], answer
    assert "ValueError: odd" in answer.items[1].error.message and "None" in answer.items[2].error.message, answer
    assert [item.error.kind for item in answer.items] == [0, 0, 0, 1] and "no face" in answer.items[3].error.message, answer

    def raises(*_):
        raise KeyError("artist")

    code, details = error_of(raises, request([0, 1]))
    assert code == "INTERNAL" and "KeyError: 'artist'" in details and "package_cases.py:" in details, details

    def refuses(*_):
        raise InvalidInput("no label")

    assert all(item.error.kind == 1 and "no label" in item.error.message for item in score(refuses, request([0, 1])).items)
    for wrong, words in (([1], "1 values for 2 images"), (3, "expected a list or array of 2 numbers"), ("ab", "type str"),
                         (np.zeros((3, 2)), "shape [3, 2]"), (([1, 2], {"a": [1]}), "the part 'a'"),
                         ([{"value": 1, "a": 1}, {"value": 2}], "another")):
        code, details = error_of(lambda *_, wrong=wrong: wrong, request([0, 1]))
        assert code == "INTERNAL" and words in details, (wrong, details)
    code, details = error_of(lambda *_: [1], request([0], api_version=9))
    assert code == "FAILED_PRECONDITION" and "version 1 of the API, not 9" in details, details


def arguments():
    seen = []

    def fn(images, prompts, metadata):
        seen.append((images, prompts, metadata))
        return [0] * len(prompts)

    with_inputs = request([0, 255], inputs=b"\x33" * 36)
    score(fn, with_inputs, inputs=True)
    images, prompts, metadata = seen.pop()
    assert images.shape == (2, 3, 3, 2) and images.dtype == np.float32 and images.min() == 0 and images.max() == 1, images
    assert prompts == ["p0", "p1"] and metadata[1]["label"] == 1 and metadata[1]["artist"] == "me" and metadata[1]["id"] == "i1"
    assert metadata[0]["input_image"].shape == (3, 3, 2) and np.all(metadata[0]["input_image"] == np.float32(0.2)), metadata
    score(fn, request([7, 255]), images="uint8")
    images = seen.pop()[0]
    assert images.shape == (2, 3, 2, 3) and images.dtype == np.uint8 and images[0].max() == 7, images
    score(fn, request([7, 255]), images="pil")
    images = seen.pop()[0]
    assert images[0].size == (2, 3) and images[0].getpixel((1, 2)) == (7, 7, 7), images
    floats = np.linspace(0, 1, 18, dtype="<f4")
    score(fn, request([0], generated=floats.tobytes(), pixels=scores.RGB_FLOAT32), pixels="float32")
    assert np.array_equal(seen.pop()[0].reshape(18), floats)
    buffer = io.BytesIO()
    Image.new("RGB", (2, 3), (1, 2, 3)).save(buffer, "PNG")
    score(fn, png_request(buffer.getvalue()), pixels="png")
    assert np.allclose(seen.pop()[0][0, :, 2, 1] * 255, [1, 2, 3])


def png_request(file):
    made = request([0], generated=b"", pixels=scores.PNG)
    made.generated_png.append(file)
    return made


def servers():
    big = request([0] * 2)
    big.generated = bytes(2 * 3 * 2000 * 2000)  # 24 MB: more than gRPC's own limit.
    big.height = big.width = 2000
    assert len(score(lambda images, *_: images[:, 0, 0, 0], big).items) == 2
    with RewardServer(lambda *_: [1], "127.0.0.1:0", token="secret") as server:
        for token in (None, "wrong"):
            try:
                call(server, "Score", request([0]), Response, token)
                raise AssertionError(f"the token {token} is taken")
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
        assert call(server, "Score", request([0]), Response, "secret").items[0].value == 1
        with grpc.insecure_channel(server.address) as channel:  # Health needs no token.
            assert channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=20) == b"\x08\x01"
        try:
            RewardServer(lambda *_: [1], server.address)
            raise AssertionError("two servers at one address")
        except OSError as error:
            assert server.address in str(error), error
    for wrong in ({"images": "jpeg"}, {"pixels": "jpeg"}, {"threads": 0}, {"address": "0.0.0.0:0", "token": "secret"}):
        try:
            RewardServer(lambda *_: [1], **{"address": "127.0.0.1:0", **wrong})
            raise AssertionError(f"{wrong} is taken")
        except ValueError:
            pass


def ends_in_order():
    """A call that is under way when SIGTERM comes is still answered."""
    code = ("import sys, time; from imageddpo_client import serve\n"
            "def fn(images, prompts, metadata):\n    print('at work', file=sys.stderr, flush=True); time.sleep(1); return [5]\n"
            "serve(fn, sys.argv[1])\n")
    address = f"unix:/tmp/imageddpo-reward-{os.getpid()}.sock"
    process = subprocess.Popen([sys.executable, "-c", code, address], stderr=subprocess.PIPE, text=True)
    assert "serves at" in process.stderr.readline()
    with grpc.insecure_channel(address) as channel:
        answer = channel.unary_unary("/imageddpo.v1.RewardService/Score", response_deserializer=Response.FromString,
                                     request_serializer=lambda m: m.SerializeToString()).future(request([0]), timeout=20)
        assert "at work" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert answer.result().items[0].value == 5
    start = time.monotonic()
    assert process.wait(20) == 0 and time.monotonic() - start < 15
    process.stderr.close()


class FinishedJob:
    """A client of a job that died in its second epoch and has ended."""

    def get(self, job):
        return Job(job, "deblur", "SUCCEEDED", "", 2, 2, "", [], "", "", {"spec": {"train": {"learning_rate": 1e-4}}})

    def watch(self, job):
        parts = {"jpeg.value": 2.0}
        events = [("state", {"state": "RUNNING"}), ("eval", {"epoch": 0, "reward_mean": 0.5, "parts_mean": parts}),
                  ("epoch", {"epoch": 0, "reward_mean": 1.0, "clip_fraction_high": 0.25, "parts_mean": parts}),
                  ("epoch", {"epoch": 1, "reward_mean": float("nan"), "loss": 3}),
                  ("epoch", {"epoch": 1, "reward_mean": float("nan"), "loss": 3}), ("state", {"state": "SUCCEEDED"})]
        return (Event(number + 1, kind, data) for number, (kind, data) in enumerate(events))


class Tracker:
    """Stands for the modules wandb and mlflow, and for a run of theirs."""

    def __init__(self):
        self.settings, self.logged, self.params, self.is_finished = {}, [], {}, False

    def init(self, **settings):
        self.settings = settings
        return self

    start_run = init

    def log(self, numbers, step):
        self.logged.append((step, numbers))

    log_metrics = log

    def log_params(self, params):
        self.params = params

    def finish(self, *_):
        self.is_finished = True

    def __enter__(self):
        return self

    __exit__ = finish


def trackers():
    wandb, mlflow = Tracker(), Tracker()
    to_wandb(FinishedJob(), "job-000001", wandb=wandb, project="p")
    assert wandb.settings == {"id": "job-000001", "name": "deblur", "resume": "allow", "project": "p",
                              "config": {"train": {"learning_rate": 1e-4}}}, wandb.settings
    assert wandb.logged == [
        (0, {"eval/epoch": 0, "eval/reward_mean": 0.5, "eval/parts_mean.jpeg.value": 2}),
        (1, {"epoch": 0, "reward_mean": 1, "clip_fraction_high": 0.25, "parts_mean.jpeg.value": 2}),
        (2, {"epoch": 1, "loss": 3})], wandb.logged
    to_mlflow(FinishedJob(), "job-000001", mlflow=mlflow, trl=True)
    assert mlflow.params == {"train.learning_rate": "0.0001"}, mlflow.params
    assert mlflow.logged[1] == (1, {"epoch": 0, "reward_mean": 1, "reward": 1, "clip_ratio/high_mean": 0.25,
                                    "rewards/jpeg.value/mean": 2}), mlflow.logged
    assert wandb.is_finished and mlflow.is_finished
    assert trl_names({"kl_to_base": 1, "loss": 2}) == {"kl": 1, "loss": 2}


for case in (returns, errors, arguments, servers, ends_in_order, trackers):
    case()
    print(f"{case.__name__}: ok", flush=True)
