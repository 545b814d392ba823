"""A service that is stopped (SIGTERM) every few epochs and started again: no finished epoch is lost, whatever
`checkpoint.every_epochs` says, so the job ends after the number of windows that its epochs take, with the
undisturbed run's LoRA and metrics, bit for bit. With a drain that is long enough for an epoch, and without.
"""
import harness

EPOCHS, WINDOW = 12, 4


def settings(directory, staleness):
    return harness.job(directory, num_epochs=EPOCHS, topology={"rollout": 1, "trainer": 1}, checkpoint={"every_epochs": 10},
                       sample={"max_staleness": staleness})


def in_windows(service, job):
    """Stops the service WINDOW epochs after it was started, again and again."""
    job_id = service.submit(job)
    seen = windows = 0
    while True:
        windows += 1
        found = service.wait(job_id, lambda j, seen=seen: j["state"] == "SUCCEEDED" or seen + WINDOW <= j["progress"]["epoch"] < EPOCHS,
                             240, f"window {windows}")
        if found["state"] == "SUCCEEDED":
            break
        seen = found["progress"]["epoch"]
        service.stop()
        service.start()
        resumed = service.wait(job_id, lambda j, windows=windows: j["resume_count"] == windows or j["state"] == "SUCCEEDED", 120,
                               "the job to be resumed")
        if resumed["resume_count"] < windows:  # It ended in the last moment.
            continue
        print(f"stopped after epoch {seen}: resumed from {resumed['resumed_from_epoch']}", flush=True)
        assert resumed["resumed_from_epoch"] >= seen, resumed
    assert windows <= EPOCHS // WINDOW + 1, f"{windows} windows of at least {WINDOW} epochs for {EPOCHS}"
    return harness.outcome(found)


with harness.workspace() as directory:
    for staleness, drain_seconds in ((0, 30), (1, 0)):
        job = settings(directory, staleness)
        with harness.Service(directory, 3, drain_seconds=drain_seconds) as service:
            undisturbed = harness.outcome(service.run(job))
            harness.assert_same(undisturbed, in_windows(service, job), f"stopped with a drain of {drain_seconds} s")
print("ok")
