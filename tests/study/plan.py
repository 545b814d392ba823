"""What the study runs. A job is deploy/demo/job.yaml with other settings; a cell is one of them."""
import dataclasses
import hashlib

PARTS = ("corruptions", "settings", "photographs", "demo")
CORRUPTIONS = ("gaussian_noise", "defocus_blur", "motion_blur", "fog", "pixelate", "jpeg_compression")
SEVERITIES = (1, 3, 5)
SEEDS = (1, 2, 3)
TREATMENTS = ("rl", "sft", "sft_rl")  # The evaluation before a job's first epoch is the fourth: plain img2img.

# Two jobs at a time on two cores.
COMMON = ("topology={colocated: 1}", "device.num_threads=1", "train.update=replay", "sample.noise_strength=0.3", "num_epochs=160",
          "eval.num_pictures=8")
# The reward is the demo's. How near the result is to the clean image takes no part in training.
REWARDS = ("rewards=[{type: classifier, model: deploy/demo/classifier.pt, measure: logit_change}, "
           "{type: ssim, reference: target, held_out: true}, {type: psnr, reference: target, held_out: true}]")
# Photographs have no labels: the reward is the likeness to the clean patch, and what judges besides is a network's distance.
PHOTO_REWARDS = ("rewards=[{{type: ssim, reference: target}}, {{type: psnr, reference: target, held_out: true}}, "
                 "{{type: torchscript, model: {data}/likeness.pt, name: likeness, weight: -1, held_out: true}}]")
QUICK = ("num_epochs=4", "sample.batch_size=32", "train.batch_size=16", "device.device_batch_size=16", "eval.max_images=100")

# One thing changed at a time, against `base` of the same seed. Five steps are executed, so that there is something to choose.
SETTINGS_COMMON = ("sample.noise_strength=0.5",)
SETTINGS_CORRUPTION, SETTINGS_SEVERITY = "defocus_blur", 3
SETTINGS = {
    "base": (),
    "groups of 8": ("sample.group_size=8", "advantage.mode=group"),
    "groups of 8, same start": ("sample.group_size=8", "sample.same_init_noise=true", "advantage.mode=group"),
    "trust region kl": ("train.trust_region=kl",),
    "kl_to_base penalty": ("train.kl_coef=0.001",),
    "two of five steps": ("train.step_fraction=0.4",),
    "moving window of two": ("train.step_window={size: 2, stride: 1}",),
    "random window of two": ("sample.sde_window={size: 2, stride: 1, every_epochs: 8}",),
    "average": ("train.ema_decay=0.98", "eval.use_ema=true"),
    "strength 0.2": ("sample.noise_strength=0.2",),
    "strength 0.3": ("sample.noise_strength=0.3",),
    "strength 0.4": ("sample.noise_strength=0.4",),
    "one epoch stale": ("sample.max_staleness=1",),
}

# Candidates for deploy/demo/job.yaml, each as `make demo` would run it: alone, and with a limit on its seconds.
DEMO = {
    "as it is": (),
    "0.2, 160 epochs": ("sample.noise_strength=0.2", "num_epochs=160"),
    "0.3, 160 epochs": ("sample.noise_strength=0.3", "num_epochs=160"),
    "0.3, 240 epochs": ("sample.noise_strength=0.3", "num_epochs=240"),
    "0.3, 400 epochs": ("sample.noise_strength=0.3", "num_epochs=400"),
    "0.3, 400 epochs, two of three steps": ("sample.noise_strength=0.3", "num_epochs=400", "train.step_fraction=0.67"),
    "0.3, 400 epochs, random window of two": ("sample.noise_strength=0.3", "num_epochs=400",
                                       "sample.sde_window={size: 2, stride: 1, every_epochs: 8}"),
    "0.3, 240 epochs, rate 8e-3": ("sample.noise_strength=0.3", "num_epochs=240", "train.learning_rate=8e-3"),
    "0.3, 240 epochs, rate 8e-3, cosine": ("sample.noise_strength=0.3", "num_epochs=240", "train.learning_rate=8e-3",
                                           "train.lr_schedule=cosine"),
    "0.3, 240 epochs, groups of 8": ("sample.noise_strength=0.3", "num_epochs=240", "sample.group_size=8", "advantage.mode=group"),
    "0.4, 160 epochs": ("sample.noise_strength=0.4", "num_epochs=160"),
}


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One job."""
    part: str
    case: str
    severity: int  # 0: the demo's own blurred images.
    treatment: str
    seed: int
    settings: tuple
    starts_from: "Cell | None" = None  # Its LoRA comes from there.

    @property
    def key(self):
        """The same for the same job, and another one where its settings are others."""
        text = repr((self.settings, self.starts_from.key if self.starts_from else ""))
        return f"{self.part}/{self.case}/{self.severity}/{self.treatment}/{self.seed}/{digest(text)}"


def corrupted(data, corruption, severity):
    return (f"data.path={data}/blurred", f"eval.path={data}/held-out", f"data.corrupt={{kind: {corruption}, severity: {severity}}}", REWARDS)


def photograph(data, corruption, severity):
    return (f"model.path={data}/model", f"data.path={data}/train", f"eval.path={data}/held-out",
            f"data.corrupt={{kind: {corruption}, severity: {severity}}}", PHOTO_REWARDS.format(data=data))


def corruption_cells(part, settings_of, quick):
    """settings_of(corruption, severity): the data and the rewards."""
    for corruption in CORRUPTIONS[1:2] if quick else CORRUPTIONS:
        for severity in SEVERITIES[1:2] if quick else SEVERITIES:
            for seed in SEEDS[:1] if quick else SEEDS:
                settings = (f"seed={seed}", *COMMON, *settings_of(corruption, severity), *(QUICK if quick else ()))
                place = (part, corruption, severity)
                sft = Cell(*place, "sft", seed, (*settings, "train.objective=sft"))
                yield sft
                yield Cell(*place, "rl", seed, settings)
                yield Cell(*place, "sft_rl", seed, settings, sft)


def setting_cells(data, quick):
    cases = ("base", "two of five steps") if quick else SETTINGS
    for seed in SEEDS[:1] if quick else SEEDS:
        for case in cases:
            settings = (f"seed={seed}", *COMMON, *corrupted(data, SETTINGS_CORRUPTION, SETTINGS_SEVERITY), *(QUICK if quick else ()),
                        *SETTINGS_COMMON, *SETTINGS[case])  # Later ones win.
            yield Cell("settings", case, SETTINGS_SEVERITY, "rl", seed, settings)


def demo_cells(quick):
    for case in list(DEMO)[:1] if quick else DEMO:
        for seed in SEEDS[:1] if quick else SEEDS:
            yield Cell("demo", case, 0, "rl", seed, (f"seed={seed}", *DEMO[case], *(QUICK if quick else ())))


def cells(parts, data, photos, quick):
    """All of some parts, each after the one that it starts from. data, photos: the folders of clean images and of what
    photographs.py makes, relative to the tree."""
    made = {"corruptions": lambda: corruption_cells("corruptions", lambda *place: corrupted(data, *place), quick),
            "settings": lambda: setting_cells(data, quick),
            "photographs": lambda: corruption_cells("photographs", lambda *place: photograph(photos, *place), quick),
            "demo": lambda: demo_cells(quick)}
    return [cell for part in parts for cell in made[part]()]
