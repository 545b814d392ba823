"""Images as people have them: bad ones are all named at the start, or skipped with the bits of a job on the others;
captions of other tools are used; what is not understood is told; a set that changes while a job is interrupted is
refused, unless that is allowed."""
import json
import os
import pathlib
import shutil
import signal

import harness

REWARD = [{"type": "jpeg", "measure": "compressibility"}]


def folder_of(pictures, path):
    """A folder of images without a metadata file."""
    path.mkdir()
    for picture in pictures:
        shutil.copyfile(picture, path / picture.name)
    return path


def failed(service, settings, *words):
    ended = service.wait_end(service.submit(settings))
    assert ended["state"] == "FAILED", ended
    for word in words:
        assert word in ended["state_reason"], f"no {word!r} in: {ended['state_reason']}"


def state_of(job, epoch):
    return json.loads((pathlib.Path(job["output_dir"]) / f"checkpoints/epoch-{epoch:06d}/state.json").read_text())


with harness.workspace() as directory:
    pictures = sorted((directory / "data/blurred").glob("*.png"))
    assert len(pictures) == 40, pictures
    broken = folder_of(pictures, directory / "broken")
    cut, text = broken / pictures[7].name, broken / pictures[21].name
    cut.write_bytes(cut.read_bytes()[:60])  # Its head is good.
    others = folder_of([p for p in pictures if p.name not in (cut.name, text.name)], directory / "others")

    def job(path, **data):
        settings = harness.job(directory, data={"path": str(path), **data}, rewards=REWARD, num_epochs=3)
        del settings["eval"]
        return settings

    with harness.Service(directory, 3) as service:
        # The pixels of one: named in the first epochs, although it may not be drawn.
        failed(service, job(broken), cut.name, "1 of 40 images", "data.on_error")
        text.write_text("not an image")
        failed(service, job(broken), text.name, "1 of 40 images", "data.on_error")

        checked = service.client("check-data", broken, check=False)
        assert checked.returncode == 1, checked
        assert cut.name in checked.stderr and text.name in checked.stderr, checked.stderr
        assert service.client("check-data", others).returncode == 0

        skipped = service.run(job(broken, on_error="skip"))
        assert skipped["progress"]["data_images"] == 38 and skipped["progress"]["data_images_listed"] == 40, skipped["progress"]
        assert "38 of 40 images, 2 skipped" in service.client("get", skipped["id"]).stdout
        assert any("2 of 40 images" in w and cut.name in w and text.name in w for w in skipped["warnings"]), skipped["warnings"]
        rows = [json.loads(row) for row in (pathlib.Path(skipped["output_dir"]) / "metrics.jsonl").read_text().splitlines()]
        assert all(row["images_skipped"] == 2 for row in rows), rows
        assert sorted(state_of(skipped, 3)["data"]["skipped"]) == sorted([cut.name, text.name])
        whole = service.run(job(others))
        assert harness.outcome(whole)["lora"] == harness.outcome(skipped)["lora"], "skipping is not the same as leaving out"
        assert "images_skipped" not in (pathlib.Path(whole["output_dir"]) / "metrics.jsonl").read_text()

        # Captions of other tools, and a file that nobody reads.
        (others / "captions.json").write_text("{}")
        captioned = folder_of(pictures[:8], directory / "captioned")
        (captioned / "metadata.csv").write_text("file_name,text\n" + "".join(f"{p.name},a thing\n" for p in pictures[:8]))
        ended = service.run({**job(captioned), "sample": {**job(captioned)["sample"], "guidance_scale": 3.0}})
        assert ended["warnings"] == [], ended["warnings"]
        ended = service.run(job(others))
        assert any("captions.json" in warning for warning in ended["warnings"]), ended["warnings"]
        (directory / "splits").mkdir()
        for split in ("train", "test"):
            folder_of(pictures[:8], directory / "splits" / split)
        failed(service, job(directory / "splits"), "one folder per split", "splits/train")

        # A set that changes while its job is interrupted.
        for allowed in (False, True):
            settings = {**job(others, allow_change=allowed), "num_epochs": 40, "checkpoint": {"every_epochs": 1}}
            job_id = service.submit(settings)
            service.wait(job_id, lambda j: j["progress"]["epoch"] >= 2, 240, "a checkpoint")
            shutil.copyfile(pictures[0], others / f"new-{allowed}.png")
            os.kill(service.pids()[service.ranks_of(job_id)[0]], signal.SIGKILL)
            ended = service.wait_end(job_id)
            change = f"1 image was added (new-{allowed}.png)"
            if allowed:
                assert ended["state"] == "SUCCEEDED" and ended["resume_count"] >= 1, ended
                assert any(change in warning for warning in ended["warnings"]), ended["warnings"]
                assert ended["progress"]["data_images"] == 40, ended["progress"]
            else:
                assert ended["state"] == "FAILED" and change in ended["state_reason"], ended
                assert "data.allow_change" in ended["state_reason"], ended
print("ok")
