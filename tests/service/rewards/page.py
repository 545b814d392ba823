"""The rewards of docs/rewards.md and of README, copied as they stand, train the demo's model; the client for notebooks watches."""
import json
import re
import subprocess
import sys

import rewards_harness
from rewards_harness import harness

sys.dont_write_bytecode = True
MOST_LINES = 15
CLIENT = """
import json, sys
from imageddpo_client import Client, ServiceError

client = Client(service_file=sys.argv[1])
job = client.submit(json.loads(sys.argv[2]))
kinds = [event.kind for event in client.watch(job)]
assert kinds.count("epoch") == 6 and "checkpoint" in kinds and kinds[-1] == "state", kinds
metrics = client.metrics(job)
assert metrics["epoch"] == list(range(6)), metrics["epoch"]
assert len(metrics["parts_mean.colour.value"]) == 6, sorted(metrics)
ended = client.get(job)
assert ended.state == "SUCCEEDED" and ended.is_final and ended.epoch == 6, ended
assert [each.id for each in client.list()] == [job.id]
lora = client.download(job, sys.argv[3])
assert lora.read_bytes() == open(ended.lora_path, "rb").read()
lines = list(client.logs(job, follow=True))
assert lines and all(line["time"] and line["level"] and line["message"] and line["rank"] > 0 for line in lines), lines
rank = lines[0]["rank"]
assert list(client.logs(job, rank=rank, tail=1)) == [[line for line in lines if line["rank"] == rank][-1]]
partial = lora.with_name(lora.name + ".part")
for wrong in (b"", lora.read_bytes()[:50], b"of another file", lora.read_bytes() + b"more"):
    content = lora.read_bytes()
    lora.unlink()
    partial.write_bytes(wrong)  # An interrupted download, which goes on or begins anew.
    assert client.download(job, sys.argv[3]).read_bytes() == content and not partial.exists(), wrong
results = client.download(job, sys.argv[3], ["metrics.jsonl", "checkpoints/epoch-000006/MANIFEST"])
assert len((results / "metrics.jsonl").read_text().splitlines()) >= 6
assert json.loads((results / "checkpoints/epoch-000006/MANIFEST").read_text())["epoch"] == 6
for name in ("../jobs.db", "/etc/passwd", "none"):
    try:
        raise AssertionError(client.download(job, sys.argv[3], [name]))
    except ServiceError as error:
        assert error.code in ("INVALID_ARGUMENT", "NOT_FOUND"), error
for verb in (client.pause, client.resume, client.checkpoint):
    try:
        raise AssertionError(verb(job))
    except ServiceError as error:
        assert error.code == "FAILED_PRECONDITION" and "SUCCEEDED" in str(error), error
for wrong in (lambda: client.cancel(job), lambda: client.get("job-999999"), lambda: client.submit({"sede": 3})):
    try:
        wrong()
    except ServiceError as error:
        print(error.code)
print(json.dumps(metrics["reward_mean"]))
"""


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", (harness.ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def main():
    [code] = [block for block in blocks("docs/rewards.md", "python") if "sys.argv" in block]
    [lines] = [block for block in blocks("docs/rewards.md", "yaml") if "127.0.0.1:50061" in block]
    assert len([line for line in code.splitlines() if line.strip() and not line.startswith("#")]) < MOST_LINES, code
    match = re.fullmatch(r"rewards:\n  - \{type: (\w+), endpoints: \[(.*)\], name: (\w+), weight: (\d+)\}\n", lines)
    assert match, lines
    with harness.workspace() as directory, rewards_harness.installed() as package, harness.Service(directory, 3) as service:
        script = directory / "reward.py"
        script.write_text(code)
        address = f"unix:{directory}/reward.sock"
        reward = {"type": match[1], "endpoints": [address], "name": match[3], "weight": int(match[4])}
        settings = harness.job(directory, rewards=[reward], num_epochs=6)
        with rewards_harness.Process(package, script, address, log=directory / "reward.log") as process:
            result = subprocess.run(
                [rewards_harness.python(), "-c", CLIENT, service.data_dir / "service.json", json.dumps(settings), directory / "loras"],
                env=rewards_harness.environment(package), capture_output=True, text=True, timeout=300, check=False)
            assert result.returncode == 0, result.stderr + process.log.read_text()
            process.process.terminate()  # In order.
            assert process.process.wait(30) == 0, process.log.read_text()
        codes = result.stdout.split()
        assert codes[:3] == ["FAILED_PRECONDITION", "NOT_FOUND", "INVALID_ARGUMENT"], result.stdout
        rewards = json.loads("".join(codes[3:]))
        assert len(set(rewards)) == 6 and all(value > 0 for value in rewards), rewards

        # README's, with its setting; only at another address, since this one's port may be taken.
        [code] = [block for block in blocks("README.md", "python") if "import serve" in block]
        assert len([line for line in code.splitlines() if line.strip()]) < MOST_LINES and code.count("127.0.0.1:50061") == 1, code
        assert '`rewards: [{type: service, endpoints: ["127.0.0.1:50061"]}]`' in (harness.ROOT / "README.md").read_text()
        address = f"unix:{directory}/readme.sock"
        script.write_text(code.replace("127.0.0.1:50061", address))
        settings = harness.job(directory, rewards=[{"type": "service", "endpoints": [address]}], num_epochs=2)
        with rewards_harness.Process(package, script, address, log=directory / "readme.log"):
            ended = service.run(settings)
        rows = [json.loads(row) for row in harness.outcome(ended)["metrics"].splitlines()]
        assert rows and all(0 < row["reward_mean"] < 1 and row["grad_norm"] > 0 for row in rows), rows
    print("ok")


main()
