"""What is measured: settings that are equal on both sides."""
import dataclasses


@dataclasses.dataclass
class Case:
    name: str
    precision: str
    update: str  # Ours; the original always replays.
    guidance: float = 1.0
    batch: int = 4
    samples: int = 8
    resolution: int = 512
    num_steps: int = 50
    strength: float = 0.4
    tokens: int = 77
    tf32: bool = False
    with_seed: bool = True
    fused: bool = False  # Ours with device.fused_kernels.
    seconds: float = 7  # Of measured epochs on each side, two epochs at least.

    def size(self):
        return ["--resolution", str(self.resolution), "--tokens", str(self.tokens)]

    def arguments(self):
        """Options that gpu_check and seed_loop.py both have."""
        return ["--precision", self.precision, "--guidance-scale", str(self.guidance), "--resolution", str(self.resolution),
                "--num-steps", str(self.num_steps), "--noise-strength", str(self.strength),
                "--batch-size", str(self.batch), "--samples", str(self.samples)]


def on_gpu():
    """SD 1.5 at 512 px, 50 steps at strength 0.4; the most wanted first, since time is limited."""
    return [
        Case("bf16-g1", "bf16", "single_pass", batch=8),
        Case("bf16-g7.5", "bf16", "replay", guidance=7.5, batch=8),
        Case("bf16-g1-fused", "bf16", "single_pass", batch=8, fused=True, with_seed=False, seconds=4),
        Case("bf16-batch-16", "bf16", "single_pass", batch=16, samples=16, with_seed=False, seconds=4),
        Case("bf16-batch-1", "bf16", "single_pass", batch=1, samples=2, with_seed=False, seconds=3),
        Case("fp32-g1", "fp32", "single_pass", samples=4, with_seed=False, seconds=4),
        Case("fp32-batch-1", "fp32", "single_pass", batch=1, samples=1, with_seed=False, seconds=3),
        Case("fp32-g7.5", "fp32", "replay", guidance=7.5, samples=4, with_seed=False, seconds=4),
        Case("tf32-g1", "fp32", "single_pass", samples=4, tf32=True, with_seed=False, seconds=3),
    ]


def repeated(dry):
    """The epoch whose bits are compared: a replay, which also says how far the first ratio is from 1; 4 steps."""
    return small(Case("repeated", "bf16", "replay", guidance=7.5, batch=2, samples=2, num_steps=10), dry)


def traced(dry):
    """The epoch that is profiled: one micro-batch, 2 steps."""
    return small(Case("traced", "bf16", "replay", guidance=7.5, batch=8, samples=8, num_steps=5), dry)


def small(case, dry):
    """With the recorded tiny model."""
    return dataclasses.replace(case, batch=2, samples=2, resolution=16, num_steps=5, tokens=16) if dry else case


def dry_run():
    """The same cases with the recorded tiny model, to see that everything runs."""
    return [small(case, True) for case in on_gpu()[:4]]
