"""Clients that may not, and a good round; run by a Python that has gRPC and imageddpo_client."""
import json
import pathlib
import sys
import threading
import time

import grpc

from imageddpo_client import Client, ServiceError, messages

case = json.loads(pathlib.Path(sys.argv[1]).read_text())
tokens = case["tokens"]


def client(token, ca=case["ca"]):
    return Client(case["address"], tls_ca_file=ca, token=token, timeout=20)


def code_of(call):
    try:
        call()
    except ServiceError as error:
        return error.code
    return "OK"


# Nobody gets in without a token of this service, over TLS of this authority.
assert code_of(lambda: list(client(None).list())) == "UNAUTHENTICATED"
assert code_of(lambda: list(client("imageddpo_" + 64 * "0").list())) == "UNAUTHENTICATED"
assert code_of(lambda: list(client(tokens["expired"]).list())) == "UNAUTHENTICATED"
assert code_of(lambda: list(client(tokens["revoked"]).list())) == "UNAUTHENTICATED"
assert code_of(lambda: list(client(tokens["alice"], case["foreign_ca"]).list())) == "UNAVAILABLE"
assert code_of(lambda: list(Client(case["address"], token=tokens["alice"], timeout=20).list())) == "UNAVAILABLE"

# What is refused says why, for programs too; and all faults of a job come at once, with what was meant.
def refusal_of(call):
    try:
        call()
    except ServiceError as error:
        return error
    raise AssertionError("not refused")


assert refusal_of(lambda: list(client(None).list())).reason == "BAD_TOKEN"
role = refusal_of(lambda: client(tokens["viewer"]).submit(case["job"]))
assert (role.reason, role.metadata["needed"]) == ("ROLE_TOO_LOW", "submitter"), role.metadata
misspelt = refusal_of(lambda: client(tokens["alice"]).submit({**case["job"], "sed": 1, "smaple": {}, "num_epochs": "many"}))
assert [each.field for each in misspelt.violations] == ["num_epochs", "sed", "smaple"], misspelt
assert "`seed`" in misspelt.violations[1].description and "`sample`" in misspelt.violations[2].description, misspelt
out_of_range = refusal_of(lambda: client(tokens["alice"]).submit({**case["job"], "name": "a b", "max_stage_seconds": -1}))
assert out_of_range.reason == "INVALID_SETTINGS", out_of_range.reason
assert {each.field for each in out_of_range.violations} == {"name", "max_stage_seconds"}, out_of_range.violations

# Paths out of the roots, by any way, and code that the operator has not allowed.
escapes = pathlib.Path(case["job"]["data"]["path"]).parent
(escapes / "link").symlink_to("/etc")
for path in ("/etc", "../../../../../../etc", str(escapes / "link"), str(escapes / "link/passwd"), "/proc/self/root/etc"):
    escaped = refusal_of(lambda path=path: client(tokens["alice"]).submit({**case["job"], "data": {"path": path}}))
    assert (escaped.code, escaped.reason) == ("PERMISSION_DENIED", "PATH_NOT_ALLOWED"), (path, escaped)
    assert [each.field for each in escaped.violations] == ["data.path"], escaped.violations
(escapes / "link").unlink()
code = [{**case["job"]["rewards"][0], "model": case["job"]["model"]["path"] + "/model_index.json"}]
assert refusal_of(lambda: client(tokens["alice"]).submit({**case["job"], "rewards": code})).reason == "REWARD_NOT_ALLOWED"
service = [{"type": "service", "endpoints": ["127.0.0.1:1"]}]
assert refusal_of(lambda: client(tokens["alice"]).submit({**case["job"], "rewards": service})).reason == "REWARD_NOT_ALLOWED"

# A good round, and what the others may not do with its job.
alice, bob, viewer, admin = (client(tokens[name]) for name in ("alice", "bob", "viewer", "admin"))
assert code_of(lambda: viewer.submit(case["job"])) == "PERMISSION_DENIED"
job = alice.submit(case["job"])
assert job.details["owner"] == "alice", job
assert [shown.id for shown in viewer.list()] == [job.id] and bob.get(job).id == job.id
for other in (bob, viewer):
    for verb in (other.cancel, other.pause, other.resume, other.checkpoint):
        assert code_of(lambda verb=verb: verb(job)) == "PERMISSION_DENIED", verb
assert not alice.get(job).is_final
who = alice.whoami()
assert (who["owner"], who["role"], who["known_by"]) == ("alice", "submitter", "token") and who["version"], who
[host] = viewer.cluster()["hosts"]
rank = host["ranks"][0]["rank"]
assert code_of(lambda: bob.drain(rank)) == "PERMISSION_DENIED"
assert any(each["drained"] for each in admin.drain(rank)["hosts"][0]["ranks"])
assert not any(each["drained"] for each in admin.drain(host["name"], undrain=True)["hosts"][0]["ranks"])
assert code_of(lambda: list(client(None).logs(job))) == "UNAUTHENTICATED"
wanted = messages.message("DownloadArtifactRequest")(id=job.id, name="job.yaml")
assert code_of(lambda: list(client(None)._stream("DownloadArtifact", wanted, "DownloadArtifactResponse"))) == "UNAUTHENTICATED"
assert [row["name"] for row in viewer.artifacts(job)], "a viewer sees files"
assert code_of(lambda: list(client(None).watch(job))) == "UNAUTHENTICATED"
assert code_of(lambda: bob.cancel("job-000099")) == "NOT_FOUND"
alice.cancel(job)
assert alice.wait(job).state == "CANCELLED"
second = bob.submit(case["job"])
admin.pause(second, immediately=True)
deadline = time.monotonic() + 60
while bob.get(second).state != "PAUSED":
    assert time.monotonic() < deadline, bob.get(second)
    time.sleep(0.1)

# A watch of a job that tells nothing, with a ping every 10 s, is not sent away; that used to happen after the third.
options = [("grpc.keepalive_time_ms", 10_000), ("grpc.http2.max_pings_without_data", 0)]
credentials = grpc.ssl_channel_credentials(pathlib.Path(case["ca"]).read_bytes())
with grpc.secure_channel(case["address"], credentials, options) as channel:
    watch = channel.unary_stream("/imageddpo.v1.TrainerService/WatchJob", request_serializer=lambda m: m.SerializeToString(),
                                 response_deserializer=messages.message("JobEvent").FromString)
    call = watch(messages.message("WatchJobRequest")(id=second.id), metadata=[("authorization", f"Bearer {tokens['viewer']}")])
    ended = threading.Event()

    def read():
        try:
            for _ in call:
                pass
        except grpc.RpcError:
            pass
        ended.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert not ended.wait(45), call
    call.cancel()
    reader.join()

# A request that is too large is refused, and the service serves others.
request = messages.message("GetJobRequest")(id="x" * (5 << 20))
assert code_of(lambda: bob._job("GetJob", request)) == "RESOURCE_EXHAUSTED"
assert bob.cancel(second).state == "CANCELLED"
print("clients: ok")
