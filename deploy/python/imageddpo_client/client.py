"""A client of imageddpo's service, for notebooks and scripts."""
from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import uuid
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Union

import grpc

from . import messages
from .settings import Violation, read_settings

_SERVICE = "/imageddpo.v1.TrainerService/"
_FINAL = ("SUCCEEDED", "FAILED", "CANCELLED")
JobLike = Union[str, "Job"]


class ServiceError(Exception):
    """What the service answered in place of a result. `code` is gRPC's, as "NOT_FOUND"; `reason` says more, as
    "JOB_STATE" (docs/api.md lists them), with `metadata` as {"job": "job-000001"}. `violations` has every fault of what was
    sent: `field` and `description`."""
    def __init__(self, code: str, message: str, *, reason: str = "", metadata: Optional[Mapping[str, str]] = None,
                 violations: Iterable[Violation] = ()):
        super().__init__(f"{code}: {message}")
        self.code = code
        self.reason = reason or code
        self.metadata = dict(metadata or {})
        self.violations = list(violations)


@dataclasses.dataclass(frozen=True)
class Job:
    id: str
    name: str
    state: str               # "RUNNING"
    reason: str              # why it waits or has failed
    epoch: int               # epochs finished
    num_epochs: int
    waiting_for: str         # what it waits for outside of the service; empty: nothing
    warnings: List[str]
    lora_path: str           # on the service's host; empty: none yet
    output_dir: str          # on the service's host
    details: Dict[str, Any]  # everything, as `imageddpo get -o json` has it

    @property
    def is_final(self) -> bool:
        return self.state in _FINAL


@dataclasses.dataclass(frozen=True)
class Event:
    number: int           # 1, 2, 3, …; 0: progress
    kind: str             # state, epoch, eval, checkpoint, warning or progress
    data: Dict[str, Any]  # the event's message


_DEFAULT_ADDRESS = "unix:out/imageddpo/api.sock"  # of a service that was started in this folder
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0), ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 20_000), ("grpc.http2.max_pings_without_data", 0)]


class Client:
    """Calls the service at `address` (HOST:PORT or unix:PATH), or the one whose service.json is `service_file`; without
    both, $IMAGEDDPO_ADDRESS or the socket out/imageddpo/api.sock. Between hosts a service has TLS and tokens:
    `tls_ca_file` or $IMAGEDDPO_TLS_CA_FILE is the PEM file of its authority; `token`, `token_file`, $IMAGEDDPO_TOKEN or
    $IMAGEDDPO_TOKEN_FILE is who calls. Methods raise ServiceError. Thread-safe."""

    def __init__(self, address: Optional[str] = None, *, service_file: Optional[os.PathLike] = None,
                 token: Optional[str] = None, token_file: Optional[os.PathLike] = None,
                 tls_ca_file: Optional[os.PathLike] = None, timeout: float = 60):
        tls_ca_file = tls_ca_file or os.environ.get("IMAGEDDPO_TLS_CA_FILE")
        if service_file is not None:
            service = json.loads(pathlib.Path(service_file).read_text(encoding="utf-8"))
            address = service["grpc_address"]
            if service.get("tls") and not tls_ca_file:
                tls_ca_file = pathlib.Path(service_file).parent / "access/ca.pem"
        self.address = address or os.environ.get("IMAGEDDPO_ADDRESS") or _DEFAULT_ADDRESS
        self.timeout = timeout
        token = token or _token(token_file)
        if token and not tls_ca_file and not _is_local(self.address):
            raise ValueError(f"the token would travel unencrypted to {self.address}; give tls_ca_file")
        self._metadata = [("authorization", f"Bearer {token}")] if token else []
        if not tls_ca_file:
            self._channel = grpc.insecure_channel(self.address, _OPTIONS)
        else:
            credentials = grpc.ssl_channel_credentials(pathlib.Path(tls_ca_file).read_bytes())
            self._channel = grpc.secure_channel(self.address, credentials, _OPTIONS)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def submit(self, job: Union[Mapping[str, Any], str, os.PathLike], *, max_seconds: float = 0,
               hold: bool = False) -> Job:
        """Submits a job: its settings as a dictionary, or a job file (YAML needs PyYAML, JSON does not). It is paused when
        ranks have worked for it for `max_seconds` (0: no limit); with `hold` it starts only once it is resumed."""
        settings = job if isinstance(job, Mapping) else _read_job_file(pathlib.Path(job))
        request = messages.message("SubmitJobRequest")(request_id=str(uuid.uuid4()), max_seconds=max_seconds, hold=hold)
        violations = read_settings(_without_words(settings), request.job)
        if violations:
            raise ServiceError("INVALID_ARGUMENT", "\n".join(violation.description for violation in violations),
                               reason="INVALID_SETTINGS", violations=violations)
        return self._job("SubmitJob", request)

    def get(self, job: JobLike) -> Job:
        return self._job("GetJob", messages.message("GetJobRequest")(id=_id(job)))

    def cancel(self, job: JobLike) -> Job:
        """Asks a job to stop; it may be CANCELLING for a while."""
        return self._job("CancelJob", messages.message("CancelJobRequest")(id=_id(job)))

    def pause(self, job: JobLike, immediately: bool = False) -> Job:
        """Frees the job's ranks at the end of the epoch under way, or at once; it is PAUSING until then."""
        return self._job("PauseJob", messages.message("PauseJobRequest")(id=_id(job), immediately=immediately))

    def resume(self, job: JobLike, epoch: Optional[int] = None) -> Job:
        """Continues a job that is PAUSED, FAILED or CANCELLED from its newest checkpoint, or from that of `epoch`."""
        return self._job("ResumeJob", messages.message("ResumeJobRequest")(id=_id(job), epoch=epoch))

    def checkpoint(self, job: JobLike) -> Job:
        """Has a running job write a checkpoint at the end of the epoch under way; does not wait for it."""
        return self._job("CheckpointJob", messages.message("CheckpointJobRequest")(id=_id(job)))

    def profile(self, job: JobLike, num_epochs: int = 1) -> Job:
        """Has each rank of a running job trace its next epochs into `profile/` of the job's files; does not wait for it."""
        return self._job("ProfileJob", messages.message("ProfileJobRequest")(id=_id(job), num_epochs=num_epochs))

    def branch(self, job: JobLike, settings: Optional[Mapping[str, Any]] = None, epoch: Optional[int] = None) -> Job:
        """A new job from a checkpoint of `job`, optimizer included: the newest, or that of `epoch`; with settings
        changed, as {"train.learning_rate": 1e-4}."""
        request = messages.message("BranchJobRequest")(id=_id(job), epoch=epoch, request_id=str(uuid.uuid4()))
        for name, value in (settings or {}).items():
            request.settings.append(f"{name}={value if isinstance(value, str) else json.dumps(value)}")
        return self._job("BranchJob", request)

    def update(self, job: JobLike, *, priority: Optional[int] = None, num_epochs: Optional[int] = None,
               labels: Optional[Mapping[str, str]] = None, max_seconds: Optional[float] = None) -> Job:
        """Changes what is given. An empty label is removed; `num_epochs` only while no ranks work for the job."""
        request = messages.message("UpdateJobRequest")(id=_id(job), priority=priority, num_epochs=num_epochs,
                                                       max_seconds=max_seconds)
        request.labels.update(labels or {})
        return self._job("UpdateJob", request)

    def delete(self, job: JobLike) -> int:
        """Deletes a job that has ended, with all its files; returns the bytes that were freed."""
        request = messages.message("DeleteJobRequest")(id=_id(job))
        return self._call("DeleteJob", request, "DeleteJobResponse").freed_bytes

    def checkpoints(self, job: JobLike) -> List[Dict[str, Any]]:
        """The job's checkpoints, the oldest first: epoch, path, size_bytes, write_time, complete."""
        request = messages.message("ListCheckpointsRequest")(id=_id(job))
        return [_to_dict(item) for item in self._call("ListCheckpoints", request, "ListCheckpointsResponse").checkpoints]

    def artifacts(self, job: JobLike) -> Iterator[Dict[str, Any]]:
        """The job's files by name: name (below output_dir), size_bytes, write_time."""
        request = messages.message("ListArtifactsRequest")(id=_id(job))
        while True:
            page = self._call("ListArtifacts", request, "ListArtifactsResponse")
            yield from map(_to_dict, page.artifacts)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def cluster(self) -> Dict[str, Any]:
        """Hosts with their ranks, the gangs at work, and whether the service is well."""
        return _to_dict(self._call("GetCluster", messages.message("GetClusterRequest")(), "Cluster"))

    def drain(self, *names: Union[int, str], undrain: bool = False) -> Dict[str, Any]:
        """Takes ranks or all ranks of hosts out of the pool, or gives them back; returns cluster()."""
        request = messages.message("DrainWorkerRequest")(undrain=undrain)
        for name in names:
            (request.ranks if isinstance(name, int) else request.hosts).append(name)
        return _to_dict(self._call("DrainWorker", request, "Cluster"))

    def whoami(self) -> Dict[str, Any]:
        """Who this client is to the service: owner, role, known_by, expire_time, version."""
        return _to_dict(self._call("Whoami", messages.message("WhoamiRequest")(), "WhoamiResponse"))

    def list(self) -> Iterator[Job]:
        """All jobs, the newest first."""
        request = messages.message("ListJobsRequest")()
        while True:
            page = self._call("ListJobs", request, "ListJobsResponse")
            yield from map(_to_job, page.jobs)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def watch(self, job: JobLike, from_event: int = 0) -> Iterator[Event]:
        """A job's events, from the number `from_event` on, as they happen; ends with the job's final state."""
        request = messages.message("WatchJobRequest")(id=_id(job), from_event=from_event)
        for event in self._stream("WatchJob", request, "JobEvent"):
            kind = event.WhichOneof("event")
            yield Event(event.number, kind, _to_dict(getattr(event, kind)) if kind else {})

    def wait(self, job: JobLike) -> Job:
        """Blocks until the job has ended; a PAUSED one has not."""
        for _ in self.watch(job):
            pass
        return self.get(job)

    def metrics(self, job: JobLike) -> Dict[str, List[Any]]:
        """The numbers of every finished epoch by column, as pandas.DataFrame takes them; None where one is missing.
        Maps are columns of their own: "parts_mean.classifier.correct"."""
        current = self.get(job)
        rows: Dict[int, Dict[str, Any]] = {}
        if current.epoch > 0:
            for event in self.watch(current):
                if event.kind != "epoch":
                    continue
                row = _flat(event.data)
                rows[int(row["epoch"])] = row
                if int(row["epoch"]) + 1 >= current.epoch:
                    break
        names = list(dict.fromkeys(name for row in rows.values() for name in row))
        return {name: [rows[epoch].get(name) for epoch in sorted(rows)] for name in names}

    def logs(self, job: JobLike, *, rank: Optional[int] = None, level: str = "", tail: int = 0,
             follow: bool = False) -> Iterator[Dict[str, Any]]:
        """What the job's ranks have logged, the oldest line first: time, level, rank, message. Lines of `level` and worse
        ones, the last `tail` of them (0: all); with `follow` new ones too, until the job has ended."""
        request = messages.message("StreamLogsRequest")(id=_id(job), rank=rank, min_level=level, tail=tail, follow=follow)
        for response in self._stream("StreamLogs", request, "StreamLogsResponse"):
            yield from map(_to_dict, response.lines)

    def download(self, job: JobLike, folder: Union[str, os.PathLike], names: Optional[Iterable[str]] = None) -> pathlib.Path:
        """Downloads the newest LoRA of a job into `folder` and returns its path; or the files `names`, as artifacts() has
        them, with their folders, and returns `folder`. A file appears whole, with the SHA-256 that the service tells, or
        not at all; a second call goes on where the first one was interrupted."""
        target = pathlib.Path(folder)
        if names is not None:
            for name in names:
                parts = pathlib.PurePosixPath(name).parts
                if not parts or ".." in parts or name.startswith("/"):
                    raise ServiceError("INVALID_ARGUMENT", f"{name!r} is no name of a job's file")
                self._download_file(_id(job), name, target.joinpath(*parts))
            return target
        current = self.get(job)
        if not current.lora_path:
            raise ServiceError("FAILED_PRECONDITION", f"{current.id} has no checkpoint yet")
        name = current.lora_path[len(current.output_dir) + 1:]
        return self._download_file(current.id, name, target / pathlib.PurePosixPath(name).name)

    def _download_file(self, job_id: str, name: str, path: pathlib.Path) -> pathlib.Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".part")
        for is_last_try in (False, True):
            try:
                self._append_rest(job_id, name, partial)
            except ServiceError as error:
                # What is there may be of another file: from the beginning, once.
                begin_anew = error.code in ("OUT_OF_RANGE", "DATA_LOSS", "ABORTED")
                if begin_anew or partial.stat().st_size == 0:
                    partial.unlink()
                if is_last_try or not begin_anew:
                    raise
            else:
                break
        os.replace(partial, path)
        return path

    def _append_rest(self, job_id: str, name: str, partial: pathlib.Path) -> None:
        sha256 = hashlib.sha256()
        with open(partial, "a+b") as file:
            file.seek(0)
            for block in iter(lambda: file.read(1 << 20), b""):
                sha256.update(block)
            request = messages.message("DownloadArtifactRequest")(id=job_id, name=name, offset=file.tell())
            expected = ""
            for part in self._stream("DownloadArtifact", request, "DownloadArtifactResponse"):
                file.write(part.data)
                sha256.update(part.data)
                expected = part.sha256
            file.flush()
            os.fsync(file.fileno())
        if sha256.hexdigest() != expected:
            raise ServiceError("DATA_LOSS", f"{name}: what came is not what the service has (SHA-256)")

    def _job(self, method: str, request: Any) -> Job:
        return _to_job(self._call(method, request, "Job"))

    def _call(self, method: str, request: Any, response_name: str) -> Any:
        call = self._channel.unary_unary(
            _SERVICE + method, request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.message(response_name).FromString)
        try:
            return call(request, timeout=self.timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _error(error) from None

    def _stream(self, method: str, request: Any, item_name: str) -> Iterator[Any]:
        call = self._channel.unary_stream(
            _SERVICE + method, request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.message(item_name).FromString)(request, metadata=self._metadata)
        try:
            yield from call
        except grpc.RpcError as error:
            raise _error(error) from None
        finally:
            call.cancel()


def _id(job: JobLike) -> str:
    return job.id if isinstance(job, Job) else job


def _token(token_file: Optional[os.PathLike]) -> str:
    if token_file is None and os.environ.get("IMAGEDDPO_TOKEN"):
        return os.environ["IMAGEDDPO_TOKEN"]
    file = token_file or os.environ.get("IMAGEDDPO_TOKEN_FILE")
    return pathlib.Path(file).read_text(encoding="utf-8").strip() if file else ""


def _is_local(address: str) -> bool:
    return address.startswith(("unix:", "localhost:", "[::1]:")) or re.match(r"127(\.\d+){3}:", address) is not None


def _error(error: grpc.RpcError) -> ServiceError:
    reason, metadata, violations = "", {}, []
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in messages.message("google.rpc.Status").FromString(value).details:
            name = detail.type_url.rpartition("/")[2]
            if name == "google.rpc.ErrorInfo":
                info = messages.message(name).FromString(detail.value)
                reason, metadata = info.reason, dict(info.metadata)
            elif name == "google.rpc.BadRequest":
                violations = [Violation(each.field, each.description)
                              for each in messages.message(name).FromString(detail.value).field_violations]
    return ServiceError(error.code().name, error.details() or "", reason=reason, metadata=metadata, violations=violations)


def _read_job_file(path: pathlib.Path) -> Mapping[str, Any]:
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        import yaml
    except ImportError:
        raise ServiceError("FAILED_PRECONDITION", f"{path} is no JSON; YAML needs `pip install pyyaml`, or use "
                           "`imageddpo submit`") from None
    return yaml.safe_load(text)


def _without_words(settings: Mapping[str, Any]) -> Dict[str, Any]:
    """`topology: auto` of job files is a topology without settings."""
    return {key: {} if key == "topology" and value == "auto" else value for key, value in settings.items()}


def _to_dict(message: Any) -> Dict[str, Any]:
    """Protobuf's JSON mapping with the schema's names, every scalar, and 64-bit integers as numbers."""
    def scalar(field: Any, value: Any) -> Any:
        if field.message_type is not None:
            is_time = field.message_type.full_name == "google.protobuf.Timestamp"
            return value.ToJsonString() if is_time else _to_dict(value)
        return messages.enum_name(field.enum_type.name, value) if field.enum_type is not None else value

    result: Dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            result[field.name] = {key: scalar(inner, value[key]) for key in value}
        elif hasattr(value, "append") or hasattr(value, "extend"):
            result[field.name] = [scalar(field, item) for item in value]
        elif field.message_type is None or message.HasField(field.name):
            result[field.name] = scalar(field, value)
    return result


def _flat(data: Mapping[str, Any], prefix: str = "") -> Dict[str, Any]:
    flat: Dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[prefix + name] = value
    return flat


def _to_job(message: Any) -> Job:
    details = _to_dict(message)
    progress = details.get("progress", {})
    return Job(id=message.id, name=message.spec.name, state=details["state"], reason=message.state_reason,
               epoch=progress.get("epoch", 0), num_epochs=progress.get("num_epochs", 0),
               waiting_for=progress.get("waiting_for", ""), warnings=list(message.warnings),
               lora_path=message.lora_path, output_dir=message.output_dir, details=details)
