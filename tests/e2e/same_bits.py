"""One job, the same bits on 1 process and on 3, with colocated ranks, and with every metric in place."""
import json
import pathlib

import harness


def check_run(ended, epochs):
    output = pathlib.Path(ended["output_dir"])
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [e for e in range(epochs) for _ in range(2)], rows
    assert all(row["ratio_first_step_max_error"] == 0 for row in rows), rows
    assert rows[-1]["samples_seen"] == 16 * epochs
    assert ended["progress"]["ratio_first_step_max_error"] == 0
    assert len((output / "timings.jsonl").read_text().splitlines()) == epochs
    for trained in (0, epochs):
        rows = (output / f"eval/epoch-{trained:06d}.jsonl").read_text().splitlines()
        assert len(rows) == 12, rows
    assert (output / "samples/epoch-000000/0-output.png").read_bytes()[:4] == b"\x89PNG"
    lora = pathlib.Path(ended["lora_path"])
    assert lora.name == "pytorch_lora_weights.safetensors" and f"epoch-{epochs:06d}" in str(lora), lora


with harness.workspace() as directory:
    with harness.Service(directory, 1) as service:
        alone = service.run(harness.job(directory))
        assert alone["topology"] == "colocated 1", alone["topology"]
        check_run(alone, 4)
        alone = harness.outcome(alone)
    with harness.Service(directory, 3) as service:
        split = service.run(harness.job(directory, topology={"rollout": 1, "trainer": 1}))
        check_run(split, 4)
        harness.assert_same(alone, harness.outcome(split), "1 process against rollout 1, trainer 1")
        colocated = service.run(harness.job(directory, topology={"colocated": 2}))
        harness.assert_same(alone, harness.outcome(colocated), "1 process against colocated 2")
        other = service.run(harness.job(directory, seed=6))
        assert harness.outcome(other)["lora"] != alone["lora"], "another seed gave the same LoRA"
print("ok")
