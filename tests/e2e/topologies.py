"""One job on every kind of gang under one launcher, several at once: the same LoRA and metrics, bit for
bit. What is larger than the pool is refused with the pool's size."""
import datetime
import json

import harness

TOPOLOGIES = [{"colocated": 1}, {"colocated": 3}, {"rollout": 3, "trainer": 1}, {"rollout": 1, "trainer": 1},
              {"rollout": 2, "trainer": 2}, {"rollout": 5, "trainer": 3}]

with harness.workspace() as directory, harness.Service(directory, 9) as service:
    def job(topology):
        # 8 micro-batches an epoch, 4 gradient shards an update.
        return harness.job(directory, num_epochs=5, topology=topology, device={"device_batch_size": 2})

    too_large = directory / "too-large.yaml"
    too_large.write_text(json.dumps(job({"rollout": 6, "trainer": 3})))
    refused = service.client("submit", too_large, check=False)
    assert refused.returncode == 2 and "the pool has 8" in refused.stderr, refused

    jobs = [service.submit(job(topology)) for topology in TOPOLOGIES]
    outcomes = {}
    for topology, job_id in zip(TOPOLOGIES, jobs):
        ended = service.wait_end(job_id)
        assert ended["state"] == "SUCCEEDED", ended
        words = [f"{name} {count}" for name, count in topology.items()]
        assert ended["topology"] == ", ".join(words), ended["topology"]
        assert ended["resume_count"] == 0, ended
        outcomes[ended["topology"]] = harness.outcome(ended)
        harness.assert_same(outcomes["colocated 1"], outcomes[ended["topology"]], ended["topology"])
    assert outcomes["colocated 1"]["metrics"].count("\n") == 10
    # The first three fill the pool: they ran at the same time, and the fourth had to wait. A job gives its ranks back a
    # moment before it has ended, which is when its last files are written.
    times = [[datetime.datetime.fromisoformat(service.get(job_id)[key]) for key in ("start_time", "end_time")] for job_id in jobs]
    assert max(start for start, _ in times[:3]) < min(end for _, end in times[:3]), times
    assert times[3][0] > min(end for _, end in times[:3]) - datetime.timedelta(seconds=1), times
print("ok")
