"""A job that is branched from a checkpoint with nothing changed ends with the LoRA and the metrics of the job itself, bit for bit, in
lock-step and with sampling one epoch ahead; with another learning rate it ends with another LoRA. A job that names another one in
lora.init_from starts from that one's LoRA."""
import json
import pathlib

import harness

EPOCHS = 6
FROM = 3


def branched(service, job_id, *settings):
    out = service.client("branch", job_id, "--from-epoch", str(FROM), *settings).stdout
    branch_id = out.split()[0]
    assert f"from epoch {FROM} of {job_id}" in out, out
    ended = service.wait_end(branch_id, 240)
    assert ended["state"] == "SUCCEEDED" and ended["branched_from"] == job_id, ended
    return ended


def rewards_of_evaluation(ended, epoch):
    lines = (pathlib.Path(ended["output_dir"]) / f"eval/epoch-{epoch:06d}.jsonl").read_text().splitlines()
    return [json.loads(line)["reward"] for line in lines]


with harness.workspace() as directory, harness.Service(directory, 3) as service:
    for staleness in (0, 1):
        job = harness.job(directory, num_epochs=EPOCHS, topology={"rollout": 1, "trainer": 1},
                          checkpoint={"every_epochs": 1, "keep": 0}, sample={"max_staleness": staleness, "num_batches_per_epoch": 2})
        undisturbed = service.run(job)
        branch = branched(service, undisturbed["id"])
        harness.assert_same(harness.outcome(undisturbed), harness.outcome(branch), f"branched at staleness {staleness}")
    other = branched(service, undisturbed["id"], "--set", "train.learning_rate=0.01")
    assert harness.outcome(other) != harness.outcome(undisturbed), "the learning rate changes nothing"
    refused = service.client("branch", undisturbed["id"], "--set", "lora.rank=3", check=False)
    assert refused.returncode == 2 and "`lora.rank` cannot change with a checkpoint" in refused.stderr, refused
    heir = service.run(harness.job(directory, num_epochs=1, lora={"init_from": other["id"]}))
    assert heir["spec"]["lora"]["init_from"] == other["lora_path"], heir["spec"]["lora"]
    assert rewards_of_evaluation(heir, 0) == rewards_of_evaluation(other, EPOCHS), "it starts from another LoRA"
    freed = service.client("delete", undisturbed["id"]).stdout
    assert "deleted" in freed and "freed" in freed, freed
    assert service.client("diff", other["id"], branch["id"]).stdout.count("\n") == 2
print("ok")
