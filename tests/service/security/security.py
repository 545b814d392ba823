"""Starts the real service, with TLS and tokens made by `imageddpo admin`, then on its default socket, and runs clients.py
under a Python that has gRPC."""
import errno
import json
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "rewards"))
sys.dont_write_bytecode = True
import rewards_harness  # noqa: E402  (found by the line above)
from rewards_harness import harness  # noqa: E402

CLI = harness.BIN / "imageddpo"


class SecureService(harness.Service):
    """A service whose `grpc` and `http` are as given, with access to the tests' files."""

    def __init__(self, directory, grpc, **http):
        super().__init__(directory, 2)
        settings = json.loads(self.config.read_text())
        allow = [os.path.realpath(harness.ROOT / "deploy/demo/classifier.pt")]
        self.config.write_text(json.dumps({**settings, "grpc": grpc, "http": {"port": 0, **http}, "rewards": {"allow": allow}}))

    def token(self, owner, role, *more):
        return self.admin("token", "create", "--owner", owner, "--role", role, *more)


def http_code(address, ca, token=None, path="metrics"):
    """Over TLS with the authority `ca`; 000 where the server is not trusted."""
    header = ["-H", f"Authorization: Bearer {token}"] if token else []
    return subprocess.run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", ca, *header, f"https://{address}/{path}"],
                          capture_output=True, text=True, timeout=60, check=False).stdout


def expire(service, owner):
    """As if the token had been made long ago."""
    file = service.data_dir / "access/tokens.json"
    content = json.loads(file.read_text())
    for token in content["tokens"]:
        if token["owner"] == owner:
            token["expire_time"] = "2020-01-01T00:00:00Z"
    file.write_text(json.dumps(content))


def over_tls(directory):
    service = SecureService(directory, {"address": "127.0.0.1", "port": 0}, tls=True)
    refused = subprocess.run([harness.ROOT / "deploy/imageddpod-run", "-n", "2", "--config", service.config, "--program",
                              harness.BIN / "imageddpod"], capture_output=True, text=True, timeout=120, check=False)
    assert refused.returncode != 0 and "imageddpo admin init" in refused.stdout + refused.stderr, refused
    admin = service.admin("init", "--host", "gpu1.example.com", "--owner", "root")
    access = service.data_dir / "access"
    for name in ("ca.key", "server.key", "tokens.json"):
        assert stat.S_IMODE((access / name).stat().st_mode) == 0o600, name
    assert admin not in (access / "tokens.json").read_text()
    tokens = {"admin": admin, "viewer": service.token("vera", "viewer"), "alice": service.token("alice", "submitter"),
              "bob": service.token("bob", "submitter"), "expired": service.token("eve", "submitter"),
              "revoked": service.token("mallory", "submitter")}
    revoked = [line.split()[0] for line in service.admin("token", "list").splitlines() if "mallory" in line]
    service.admin("token", "revoke", *revoked)
    service.admin("token", "revoke", *revoked, code=3)
    expire(service, "eve")
    (directory / "foreign").mkdir()
    foreign = SecureService(directory / "foreign", {})
    foreign.admin("init")
    with service:
        told = json.loads((service.data_dir / "service.json").read_text())
        assert told["tls"] is True, told
        web, ca = told["http_address"], access / "ca.pem"
        for path in ("metrics", "api/v1/jobs", "api/v1/cluster"):
            assert http_code(web, ca, path=path) == "401" and http_code(web, ca, tokens["viewer"], path) == "200", path
            assert http_code(web, ca, tokens["expired"], path) == "401" and http_code(web, ca, tokens["revoked"], path) == "401", path
        assert http_code(web, ca, path="") == "200"  # The page itself has nothing of a job in it.
        assert http_code(web, foreign.data_dir / "access/ca.pem", tokens["viewer"]) == "000"
        case = directory / "case.json"
        case.write_text(json.dumps({"address": told["grpc_address"], "ca": str(access / "ca.pem"), "tokens": tokens,
                                    "foreign_ca": str(foreign.data_dir / "access/ca.pem"), "job": harness.job(directory, num_epochs=1000)}))
        with rewards_harness.installed() as package:
            subprocess.run([rewards_harness.python(), pathlib.Path(__file__).with_name("clients.py"), case],
                           env=rewards_harness.environment(package), check=True, timeout=200)
        contexts(directory, told["grpc_address"], access / "ca.pem", tokens["viewer"])
        renew(service, told["grpc_address"], access)
        late = service.token("late", "viewer")  # Counts without a restart.
        assert http_code(web, ca, late) == "200"
    rows = [json.loads(line) for line in (service.data_dir / "audit.jsonl").read_text().splitlines()]
    assert {row["code"] for row in rows} >= {"OK", "UNAUTHENTICATED", "PERMISSION_DENIED"}, rows
    assert any(row["owner"] == "bob" and row["method"] == "CancelJob" and not row["allowed"] for row in rows), rows
    assert any(row["owner"] == "alice" and row["method"] == "SubmitJob" and row["allowed"] for row in rows), rows
    refused = [row["reason"] for row in rows if row["owner"] == "alice" and row["method"] == "SubmitJob" and not row["allowed"]]
    assert any("`allowed_roots`" in reason for reason in refused) and any("`rewards.allow`" in reason for reason in refused), refused
    for secret in tokens.values():
        assert secret not in (service.data_dir / "audit.jsonl").read_text() + service.log.read_text()


def contexts(directory, address, ca, token):
    """The three commands of docs/security.md on another host: a file with the token, a context, a call."""
    environment = {**os.environ, "XDG_CONFIG_HOME": str(directory / "config")}
    environment.pop("IMAGEDDPO_ADDRESS", None)
    (directory / "viewer.token").write_text(token + "\n")

    def cli(*arguments, code=0):
        result = subprocess.run([CLI, *arguments], capture_output=True, text=True, timeout=60, check=False, env=environment)
        assert result.returncode == code, f"{arguments} ended with {result.returncode}: {result.stderr}"
        return result.stdout

    cli("context", "add", "cluster-a", "--address", address, "--tls-ca-file", ca, "--token-file", directory / "viewer.token")
    cli("context", "add", "nowhere", "--address", "127.0.0.1:1")
    assert "* cluster-a" in cli("context", "list")
    assert "job-000001" in cli("list")
    cli("cancel", "job-000001", code=2)  # A viewer.
    cli("context", "use", "nowhere")
    cli("list", code=4)
    assert "job-000001" in cli("list", "--context", "cluster-a")


def renew(service, address, access):
    """A new certificate is shown to new connections without a restart."""
    def shown():
        return subprocess.run(["openssl", "s_client", "-connect", address, "-alpn", "h2"], input="", capture_output=True,
                              text=True, errors="replace", timeout=60, check=False).stdout.split("-----BEGIN CERTIFICATE-----")[-1][:200]
    before = shown()
    service.admin("init", "--host", "gpu2.example.com")
    assert (access / "server.pem").exists()
    deadline = time.monotonic() + 60
    while shown() == before:
        assert time.monotonic() < deadline, "the certificate is not loaded again"
        time.sleep(1)


def error_of_user(uid, path):
    """The errno of a process of that user that connects to a socket; 0: it is let in. In a fork, since root's Python may
    be one that others cannot start."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            code = socket.socket(socket.AF_UNIX).connect_ex(str(path))
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def swapped_while_held(service, directory):
    """A folder of images, or a file below the model's folder, that becomes a link out of the roots while the job waits:
    the rank that would open it refuses."""
    private = pathlib.Path(tempfile.mkdtemp(prefix="imageddpo-private-"))
    try:
        shutil.copytree(directory.parent / "data/blurred", private / "blurred")
        shutil.copytree(directory.parent / "data", directory / "data")
        shutil.copytree(harness.ROOT / "deploy/demo/tiny-sd", directory / "model")
        jobs = []
        for name in ("images", "model"):
            path = directory / f"{name}.yaml"
            path.write_text(json.dumps(harness.job(directory, model={"path": str(directory / "model")}, num_epochs=1)))
            jobs.append(re.search(r"job-\d+", service.client("submit", path, "--hold").stdout).group())
        shutil.move(directory / "data/blurred", directory / "data/moved")
        (directory / "data/blurred").symlink_to(private / "blurred")
        service.client("resume", jobs[0])
        job = service.wait_end(jobs[0], 60)
        assert job["state"] == "FAILED" and "`data.path`" in job["state_reason"] and "outside" in job["state_reason"], job
        (directory / "data/blurred").unlink()
        shutil.move(directory / "data/moved", directory / "data/blurred")
        config = directory / "model/unet/config.json"
        shutil.move(config, private / "config.json")
        config.symlink_to(private / "config.json")
        service.client("resume", jobs[1])
        job = service.wait_end(jobs[1], 60)
        assert job["state"] == "FAILED" and "unet/config.json is a link that leads out" in job["state_reason"], job
    finally:
        shutil.rmtree(private, ignore_errors=True)


def on_the_socket(directory):
    """The default: a socket that other users cannot open."""
    directory.mkdir()
    service = SecureService(directory, {})
    with service:
        told = json.loads((service.data_dir / "service.json").read_text())
        assert told["grpc_address"] == f"unix:{service.data_dir}/api.sock" and told["tls"] is False, told
        mode = (service.data_dir / "api.sock").stat().st_mode
        assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600, oct(mode)
        for name, wanted in [("jobs.db", 0o600), ("service.json", 0o600)]:
            mode = stat.S_IMODE((service.data_dir / name).stat().st_mode)
            assert mode == wanted, f"{name}: {mode:o}"
        assert service.client("list").returncode == 0
        swapped_while_held(service, directory)
        if os.geteuid() == 0:  # Only then another user can be tried.
            service.data_dir.chmod(0o755)
            directory.chmod(0o755)
            directory.parent.chmod(0o755)
            assert error_of_user(65534, service.data_dir / "api.sock") == errno.EACCES
            assert error_of_user(0, service.data_dir / "api.sock") == 0


def page_commands(folder):
    """The `admin` commands of docs/security.md, as they stand there, in their order."""
    folder.mkdir()
    (folder / "cluster.yaml").write_text(json.dumps({"grpc": {"address": "0.0.0.0", "port": 0}}))
    blocks = re.findall(r"^```sh\n(.*?)^```$", (harness.ROOT / "docs/security.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.removeprefix("build/bin/") for line in "".join(blocks).splitlines()]
    commands = [line for line in lines if line.startswith("imageddpo admin ")]
    assert len(commands) >= 5, commands

    def run(command):
        result = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=60, check=False,
                                env={**os.environ, "PATH": f"{harness.BIN}:{os.environ['PATH']}"})
        assert result.returncode == 0, f"{command} ended with {result.returncode}: {result.stderr}"
        return result.stdout

    for command in commands:
        if " revoke " in command:  # An id of this test's.
            known = [line.split()[0] for line in run("imageddpo admin token list --config cluster.yaml").splitlines() if "alice" in line]
            command = re.sub(r"revoke \w+", f"revoke {known[0]}", command)
        run(command)
    for name in ("admin", "alice", "prometheus"):
        assert (folder / f"{name}.token").read_text().startswith("imageddpo_"), name
    assert "alice" not in run("imageddpo admin token list --config cluster.yaml")


with harness.workspace() as directory:
    page_commands(directory / "page")
    over_tls(directory)
    on_the_socket(directory / "socket")
print("ok")
