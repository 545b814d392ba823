"""Every `imageddpo` command of docs/operations.md and docs/api.md, as it stands there, with a job that has two epochs; a rank is
drained under a job, which goes on elsewhere with the same bits; the shell's completion works."""
import json
import os
import pathlib
import re
import shlex
import subprocess

import harness

COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(page):
    """The lines of the page's blocks that call the client, without their comments."""
    lines = "".join(COMMANDS.findall((harness.ROOT / page).read_text())).splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.startswith("imageddpo ")]


def run_page(service, page, folder):
    environment = {**os.environ, "IMAGEDDPO_ADDRESS": json.loads((service.data_dir / "service.json").read_text())["grpc_address"],
                   "PATH": f"{harness.BIN}:{os.environ['PATH']}"}
    found = commands(page)
    assert len(found) >= 6, f"{page}: {found}"
    for command in found:
        result = subprocess.run(shlex.split(command), cwd=folder, env=environment, capture_output=True, text=True, timeout=120,
                                check=False)
        assert result.returncode == 0 and result.stdout, f"{page}: {command} ended with {result.returncode}: {result.stderr}"
        if "-o json" in command and " logs " not in command:
            json.loads(result.stdout)
    print(f"{page}: {len(found)} commands", flush=True)


def completion(service):
    address = json.loads((service.data_dir / "service.json").read_text())["grpc_address"]
    script = ('source <(imageddpo completion bash); COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; _imageddpo; printf "%s\\n" "${COMPREPLY[@]}"')

    def words(line):
        return subprocess.run(["bash", "-c", script, "bash", line], capture_output=True, text=True, timeout=60, check=True,
                              env={**os.environ, "IMAGEDDPO_ADDRESS": address, "PATH": f"{harness.BIN}:{os.environ['PATH']}"}).stdout.split()

    assert "cluster" in words("imageddpo cl") and "submit" not in words("imageddpo cl"), words("imageddpo cl")
    assert words("imageddpo cluster dr") == ["drain"]
    assert "--follow" in words("imageddpo logs --fo")
    assert "job-000001" in words("imageddpo get job-"), words("imageddpo get job-")


def drained(directory):
    """A job of 20 epochs on two of three workers; one of them is taken out meanwhile."""
    settings = harness.job(directory, num_epochs=20, topology={"rollout": 1, "trainer": 1})
    with harness.Service(directory, 4, folder=b"quiet") as service:
        quiet = harness.outcome(service.run(settings))
    with harness.Service(directory, 4, folder=b"drained") as service:
        job_id = service.submit(settings)
        service.wait(job_id, lambda j: j["state"] == "RUNNING" and j["progress"]["epoch"] >= 2, 240, "epoch 2")
        rank = service.ranks_of(job_id)[0]
        service.client("cluster", "drain", rank)
        ended = service.wait_end(job_id)
        assert ended["state"] == "SUCCEEDED" and ended["resume_count"] == 1, ended
        assert rank not in service.ranks_of(job_id), "the job came back to the drained rank"
        assert re.search(rf"^ *{rank} .*idle, drained", service.client("cluster").stdout, re.MULTILINE)
        harness.assert_same(quiet, harness.outcome(ended), "drained")
    print("drained: ok", flush=True)


def main():
    with harness.workspace() as directory:
        (directory / "pages").mkdir()
        with harness.Service(directory, 3) as service:
            ended = service.run(harness.job(directory, num_epochs=2))
            assert ended["id"] == "job-000001", ended["id"]
            for page in ("docs/operations.md", "docs/api.md"):
                run_page(service, page, directory / "pages")
            lora = directory / "pages/job-000001" / pathlib.Path(ended["lora_path"]).relative_to(ended["output_dir"])
            assert lora.read_bytes() == pathlib.Path(ended["lora_path"]).read_bytes()
            completion(service)
        drained(directory)
    print("ok")


main()
