"""A job whose reward crashes the process: FAILED after its restarts, naming the signal and the rank. A job
beside it does not notice, and afterwards the pool is as large as before and runs the next job."""
import harness

with harness.workspace() as directory, harness.Service(directory, 4) as service:
    whole_pool = harness.job(directory, num_epochs=2, topology={"colocated": 3}, device={"device_batch_size": 2})
    reference = harness.outcome(service.run(whole_pool))
    innocent = service.submit(harness.job(directory, num_epochs=6, topology={"colocated": 1}))
    crash = [{"type": "classifier", "model": str(harness.ROOT / "tests/data/classifiers/crashes.pt"), "measure": "logit_change"}]
    poison = service.submit(harness.job(directory, rewards=crash, topology={"colocated": 1}))
    failed = service.wait_end(poison)
    assert failed["state"] == "FAILED", failed
    for word in ("rank ", "signal 8 (SIGFPE)", "restarted 3 times"):
        assert word in failed["state_reason"], failed["state_reason"]
    assert failed["resume_count"] == 3, failed
    undisturbed = service.wait_end(innocent)
    assert undisturbed["state"] == "SUCCEEDED" and undisturbed["resume_count"] == 0, undisturbed
    # All three workers are needed, and there.
    harness.assert_same(reference, harness.outcome(service.run(whole_pool)), "after the poison job")
    assert not service.ended()
print("ok")
