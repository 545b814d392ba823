"""Two hosts, as network namespaces with a cable between them: README's three commands, as they stand there, submit a job
from the second host over TLS with a token and watch it to its end. Without the right authority, without a token and in plain
text nobody gets in from there.
"""
import json
import os
import re
import shutil
import subprocess
import sys

import harness

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
SECOND = "/run/netns/second"

if "IMAGEDDPO_OWN_NETWORK" not in os.environ:  # Namespaces of our own, which end with this process.
    own = ["unshare", *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount", "--net"]
    needs = "mount -t tmpfs tmpfs /run && ip link set lo up && ip netns add try"
    tried = subprocess.run([*own, "sh", "-c", needs], capture_output=True, text=True, check=False) if shutil.which("unshare") else None
    if tried is None or tried.returncode != 0:  # As in many containers.
        print("not run, since this system lets nobody make a network namespace: "
              f"{tried.stderr.strip() if tried else 'there is no unshare'}")
        sys.exit(77)
    os.execvpe("unshare", [*own, sys.executable, *sys.argv], {**os.environ, "IMAGEDDPO_OWN_NETWORK": "1"})


def on_second(*command, **options):
    """The result of a command on the second host."""
    return subprocess.run(["nsenter", f"--net={SECOND}", *map(str, command)], capture_output=True, text=True, timeout=300,
                          check=False, **options)


def connect():
    """The cable, and an address at each end."""
    for command in ["mount -t tmpfs tmpfs /run", "ip link set lo up", "ip netns add second",
                    "ip link add name first type veth peer name second netns second", f"ip address add {SERVER}/24 dev first",
                    "ip link set first up"]:
        subprocess.run(command.split(), check=True)
    for command in ["ip link set lo up", f"ip address add {CLIENT}/24 dev second", "ip link set second up"]:
        result = on_second(*command.split())
        assert result.returncode == 0, f"{command}: {result.stderr}"


def commands(address):
    """README's, with the service's address in place of the example's."""
    block = re.search(r"^```sh\n(imageddpo context add .*?)^```$", (harness.ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = block.group(1).splitlines()
    assert len(lines) == 3 and "gpu1.example.com:50051" in lines[0], lines
    return [line.replace("gpu1.example.com:50051", address).split() for line in lines]


with harness.workspace() as directory:
    connect()
    service = harness.Service(directory, 2)
    settings = json.loads(service.config.read_text())
    service.config.write_text(json.dumps({**settings, "grpc": {"address": "0.0.0.0", "port": 0}, "http": {"port": 0}}))
    host = directory / "second-host"
    host.mkdir()
    (host / "admin.token").write_text(service.admin("init", "--host", SERVER))
    shutil.copy(service.data_dir / "access/ca.pem", host)
    (host / "my-job.yaml").write_text(json.dumps(harness.job(directory, num_epochs=2)))
    (directory / "other").mkdir()
    other = harness.Service(directory / "other", 2)
    other.admin("init", "--host", SERVER)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("IMAGEDDPO_ADDRESS", "IMAGEDDPO_T"))}
    environment.update(PATH=f"{harness.BIN}:{os.environ['PATH']}", XDG_CONFIG_HOME=str(host / "config"))
    with service:
        port = json.loads((service.data_dir / "service.json").read_text())["grpc_address"].rpartition(":")[2]
        address = f"{SERVER}:{port}"
        refused = [(["--tls-ca-file", other.data_dir / "access/ca.pem", "--token-file", host / "admin.token"], 4),  # Another authority.
                   (["--tls-ca-file", host / "ca.pem"], 2),  # No token.
                   ([], 4)]  # Plain text.
        for options, code in refused:
            result = on_second("imageddpo", "--address", address, *options, "list", cwd=host, env=environment)
            assert result.returncode == code, (options, result)
        for command in commands(address):
            result = on_second(*command, cwd=host, env=environment)
            assert result.returncode == 0, f"{command} ended with {result.returncode}: {result.stderr}\n{service.log.read_text()[-3000:]}"
        who = on_second("imageddpo", "whoami", cwd=host, env=environment).stdout
        assert "admin" in who and "a token" in who, who
    rows = [json.loads(line) for line in (service.data_dir / "audit.jsonl").read_text().splitlines()]
    assert any(row["method"] == "SubmitJob" and CLIENT in row["peer"] and row["allowed"] for row in rows), rows
    assert any(row["code"] == "UNAUTHENTICATED" and CLIENT in row["peer"] for row in rows), rows
print("ok")
