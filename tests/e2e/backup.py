"""Backup, loss, restore and retention with the real programs: what a backup has comes back with its bits, a job that was
paused goes on to the undisturbed run's LoRA, and what is not kept of ended jobs goes without harm to the rest."""
import json
import os
import pathlib
import subprocess

import harness

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("IMAGEDDPO_ADDRESS")}


def admin(service, *arguments):
    return subprocess.Popen([harness.BIN / "imageddpo", "admin", *map(str, arguments), "--config", str(service.config)],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT)


def output(process):
    text = process.communicate(timeout=120)[0]
    return process.returncode, text


def backed_up(service, directory, settings):
    """Returns a job that has ended, its outcome, and the id of one that is paused; both are in the backups."""
    with service:
        done = service.run(settings)
        kept = harness.outcome(done)
        paused = service.submit(settings)
        service.wait(paused, lambda j: j["state"] == "RUNNING" and j["progress"]["epoch"] >= 2, 240, "epoch 2")
        service.client("pause", paused)
        service.wait(paused, lambda j: j["state"] == "PAUSED", 120, f"{paused} to be PAUSED")
        both = [admin(service, "backup", directory / name, *more) for name, more in [("monday", []), ("all", ["--files", "all"])]]
        for process in both:  # At the same time.
            code, text = output(process)
            assert code == 0 and "backed up" in text, text
        assert not list(service.data_dir.glob("jobs.db.backup*")), "a snapshot is left"
        service.client("delete", done["id"])
        assert service.get(done["id"]) is None
    return done, kept, paused


def restored(service, directory, done, kept, paused):
    code, text = output(admin(service, "restore", directory / "monday"))
    assert code != 0 and "has jobs already" in text, text
    service.data_dir.rename(directory / "lost")
    code, text = output(admin(service, "restore", directory / "monday"))
    assert code == 0 and "restored" in text, text
    with service:
        again = service.get(done["id"])
        assert again["state"] == "SUCCEEDED", again
        harness.assert_same(harness.outcome(again), kept, "the restored job")
        assert service.get(paused)["state"] == "PAUSED"
        service.client("resume", paused)
        ended = service.wait_end(paused)
        assert ended["state"] == "SUCCEEDED" and ended["resumed_from_epoch"] >= 2, ended
        harness.assert_same(harness.outcome(ended), kept, "the job that went on from the backup")


def kept_alone(service, done, kept, paused):
    config = json.loads(service.config.read_text())
    least = {"events_days": 1e-9, "pictures_days": 1e-9, "checkpoints_days": 1e-9}
    service.config.write_text(json.dumps({**config, "retention": least}))
    folder = pathlib.Path(done["output_dir"])

    def checkpoints():
        return sorted(path.name for path in (folder / "checkpoints").glob("epoch-*"))

    before = checkpoints()
    assert len(before) > 1, before
    went_on = folder.parent / paused
    assert list((went_on / "samples").iterdir()), "it has no pictures"
    with service:
        planned = service.client("admin", "retention").stdout
        assert done["id"] in planned, planned
        harness.wait_for(lambda: checkpoints() == before[-1:], 180, "the checkpoints before the newest one to go")
        harness.wait_for(lambda: done["id"] not in service.client("admin", "retention").stdout, 60, "nothing more to go")
        again = service.get(done["id"])
        assert again["state"] == "SUCCEEDED", again
        harness.assert_same(harness.outcome(again), kept, "what is kept")
        harness.wait_for(lambda: not (went_on / "samples").exists(), 60, "its pictures to go")
        assert service.client("watch", done["id"]).returncode == 0  # Its last event is there.


with harness.workspace() as directory:
    service = harness.Service(directory, 2)
    done, kept, paused = backed_up(service, directory, harness.job(directory, num_epochs=8, checkpoint={"every_epochs": 1, "keep": 3}))
    restored(service, directory, done, kept, paused)
    kept_alone(service, done, kept, paused)
print("ok")
