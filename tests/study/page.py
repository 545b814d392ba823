"""The page of the study, from its rows: tables with standard errors, and plots as SVG."""
import math
import statistics
from xml.sax.saxutils import escape

NAME = "corruptions.md"
FEWEST_FOR_ERROR = 2
CERTAIN_ERRORS = 2


def estimate(values):
    """(mean, standard error of the mean); the error is None where there is one value alone."""
    mean = statistics.fmean(values)
    return mean, statistics.stdev(values) / math.sqrt(len(values)) if len(values) >= FEWEST_FOR_ERROR else None


def text_of(values, scale=100, signed=False, digits=1):
    if not values:
        return "–"
    mean, error = estimate(values)
    number = f"{scale * mean:{'+' if signed else ''}.{digits}f}"
    return number if error is None else f"{number} ± {scale * error:.{digits}f}"


def is_certainly_above(values):
    """Whether the mean is above 0 by more than two standard errors."""
    if not values:
        return False
    mean, error = estimate(values)
    return error is not None and mean > CERTAIN_ERRORS * error


def table(head, rows):
    return "\n".join(["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(row) + " |" for row in rows)])


def in_order(values):
    return list(dict.fromkeys(values))


# What a number is of the corrupted input.
GIVEN = {"accuracy": "input", "ssim": "input_ssim", "distance": "input_distance"}


class Corruptions:
    """Rows of a part with corruptions, by place. `number` is what decides; it is shown times `scale`."""

    def __init__(self, rows, part="corruptions", number="accuracy", title="top-1", scale=100, digits=1):
        self.rows = {(r["case"], r["severity"], r["treatment"], r["seed"]): r for r in rows if r["part"] == part}
        self.part, self.number, self.title, self.scale, self.digits = part, number, title, scale, digits
        self.cases = in_order(case for case, *_ in self.rows)
        self.severities = in_order(severity for _, severity, *_ in self.rows)
        self.seeds = in_order(seed for *_, seed in self.rows)

    def values(self, case, severity, treatment, number):
        """Of each seed. `plain` is the evaluation before the first epoch of `rl`, `given` the corrupted input in it."""
        column = {"given": ("rl", "before"), "plain": ("rl", "before")}.get(treatment, (treatment, "after"))
        name = GIVEN[number] if treatment == "given" else number
        found = [self.rows.get((case, severity, column[0], seed)) for seed in self.seeds]
        return [row[column[1]][name] for row in found if row and row[column[1]].get(name) is not None]

    def gains(self, case, severity, treatment, over):
        """The number above that of another treatment, of each seed that has both."""
        pairs = zip(self.values(case, severity, treatment, self.number), self.values(case, severity, over, self.number))
        return [a - b for a, b in pairs]

    def gains_of_case(self, case, treatment, over):
        """The same, means over the severities."""
        of_severities = [self.gains(case, severity, treatment, over) for severity in self.severities]
        return [statistics.fmean(values) for values in zip(*(v for v in of_severities if v))]

    def text(self, values, signed=False):
        return text_of(values, self.scale, signed, self.digits)


COLUMNS = (("given", "corrupted input"), ("plain", "plain img2img"), ("rl", "RL"), ("sft", "sft"), ("sft_rl", "sft + RL"))


def number_section(study, title):
    rows = []
    for case in study.cases:
        for severity in study.severities:
            rows.append([f"`{case}`", str(severity), *(study.text(study.values(case, severity, column, study.number)) for column, _ in COLUMNS),
                         study.text(study.gains(case, severity, "rl", "given"), signed=True),
                         study.text(study.gains(case, severity, "rl", "sft"), signed=True)])
    head = ["corruption", "severity", *(title for _, title in COLUMNS), "RL − input", "RL − sft"]
    return f"## {title}\n\n" + table(head, rows)


def likeness_section(study, number, title, digits, columns=COLUMNS[1:]):
    rows = []
    for case in study.cases:
        for severity in study.severities:
            rows.append([f"`{case}`", str(severity), *(text_of(study.values(case, severity, column, number), scale=1, digits=digits)
                                                       for column, _ in columns)])
    return f"## {title}\n\n" + table(["corruption", "severity", *(title for _, title in columns)], rows)


def verdict_section(study, title):
    better = [case for case in study.cases if is_certainly_above(study.gains_of_case(case, "rl", "given"))]
    lines = [f"## {title}", "",
             f"In {len(better)} of {len(study.cases)} corruptions, the mean over severities ({study.title}) is above the input's by more than "
             f"{CERTAIN_ERRORS} standard errors over the seeds.", ""]
    rows = [[f"`{case}`", study.text(study.gains_of_case(case, "rl", "given"), signed=True),
             study.text(study.gains_of_case(case, "rl", "plain"), signed=True),
             study.text(study.gains_of_case(case, "plain", "given"), signed=True),
             "yes" if case in better else "**no**"] for case in study.cases]
    lines.append(table(["corruption", "RL − input", "RL − plain img2img", "plain img2img − input", "better"], rows))
    if len(better) < len(study.cases):
        lines += ["", "Where it says no, the third column says how much the noise of img2img destroys before anything is learned, and the",
                  "second how much training gains back."]
    return "\n".join(lines)


def paired_section(rows, part, title, text):
    rows = [row for row in rows if row["part"] == part]
    if not rows:
        return ""
    cases = in_order(row["case"] for row in rows)
    by = {(row["case"], row["seed"]): row for row in rows}
    seeds = in_order(row["seed"] for row in rows)
    base = {seed: by[cases[0], seed] for seed in seeds if (cases[0], seed) in by}
    lines = []
    for case in cases:
        of_case = {seed: by[case, seed] for seed in seeds if (case, seed) in by}
        top1 = {seed: row["after"]["accuracy"] for seed, row in of_case.items()}
        lines.append([case, text_of(list(top1.values())),
                      text_of([top1[seed] - row["before"]["input"] for seed, row in of_case.items()], signed=True),
                      "" if case == cases[0] else
                      text_of([top1[seed] - base[seed]["after"]["accuracy"] for seed in of_case if seed in base], signed=True),
                      text_of([row["train_seconds"] for row in of_case.values()], scale=1, digits=0)])
    head = ["", "top-1", "− input", f"− {cases[0]}, paired", "seconds of training"]
    return f"## {title}\n\n{text}\n\n" + table(head, lines)


WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 760, 300, 50, 20, 120, 50
COLOURS = ("#888888", "#e69f00", "#0072b2", "#009e73", "#cc79a7")


def bars(groups, titles, y_title):
    """SVG of grouped bars with standard errors. groups: [(label, [values of a column, …])]; values in percent."""
    means = [[estimate(values) if values else (0, None) for values in columns] for _, columns in groups]
    most = max((mean + (error or 0) for of_group in means for mean, error in of_group), default=1) or 1
    height, width = HEIGHT - TOP - BOTTOM, WIDTH - LEFT - RIGHT
    y_of = lambda value: TOP + height * (1 - value / most)  # noqa: E731
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>', f'<text x="{LEFT}" y="12">{escape(y_title)}</text>']
    for tick in range(5):
        value = most * tick / 4
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_of(value):.1f}" y2="{y_of(value):.1f}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 5}" y="{y_of(value) + 4:.1f}" text-anchor="end">{value:.0f}</text>')
    step = width / max(1, len(groups))
    bar = 0.8 * step / max(1, len(titles))
    for g, (label, _) in enumerate(groups):
        for c, (mean, error) in enumerate(means[g]):
            x = LEFT + g * step + 0.1 * step + c * bar
            lines.append(f'<rect x="{x:.1f}" y="{y_of(mean):.1f}" width="{bar:.1f}" height="{height + TOP - y_of(mean):.1f}" '
                         f'fill="{COLOURS[c % len(COLOURS)]}"/>')
            if error is not None:
                middle = x + bar / 2
                lines.append(f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{y_of(mean + error):.1f}" y2="{y_of(max(0, mean - error)):.1f}" stroke="black"/>')
        lines.append(f'<text x="{LEFT + (g + 0.5) * step:.1f}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{escape(label)}</text>')
    for c, title in enumerate(titles):
        lines.append(f'<rect x="{WIDTH - RIGHT + 8}" y="{TOP + 16 * c}" width="10" height="10" fill="{COLOURS[c % len(COLOURS)]}"/>')
        lines.append(f'<text x="{WIDTH - RIGHT + 22}" y="{TOP + 9 + 16 * c}">{escape(title)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def plots(study):
    """{file name: SVG}: one for each severity."""
    made = {}
    for severity in study.severities:
        groups = [(case, [[100 * v for v in study.values(case, severity, column, study.number)] for column, _ in COLUMNS]) for case in study.cases]
        made[f"{study.part}-{severity}.svg"] = bars(groups, [title for _, title in COLUMNS], f"{study.title} in percent, severity {severity}")
    return made


INTRODUCTION = """# Corruptions: what reinforcement gains

Made by `make study` (`tests/study/`); the numbers are in `out/study/rows.jsonl`. The demo's model and data: Fashion-MNIST
at 32×32, corrupted by `data.corrupt`. Each number is the mean over {seeds} seed(s) with its standard error. Four
treatments of the same held-out images under the same noise:

- **plain img2img**: the model without a LoRA;
- **RL**: a LoRA trained by the classifier's reward (`train.objective: ddpo`);
- **sft**: a LoRA of the same size that has learned to denoise the clean images, from as many images and updates
  ([how](../algorithm.md#supervised-training));
- **sft + RL**: RL that starts from the sft LoRA.

**The comparison that matters is with the corrupted input**, in the first column: img2img first destroys some of it by noise,
so a gain over plain img2img alone may be worth nothing. The classifier of the reward is also the one that judges; the
likeness to the clean image (SSIM, PSNR) takes no part in training."""


PHOTOGRAPHS = """## Photographs

Patches of 32×32 pixels from photographs that packages ship (scikit-image's data, Debian's desktop backgrounds), with a
model of the demo's size that was pretrained on them (`tests/study/photographs.py`). Held-out patches are of other
photographs than those that are trained on. There are no labels: the reward is the SSIM to the clean patch. The distance
in the last table takes no part in training: features of an ImageNet network (EfficientNet-Lite0) at two sizes, compared
as LPIPS compares them, without its trained weights; less is better. Treatments, seeds and corruptions are those above."""


def photograph_sections(rows, folder):
    study = Corruptions(rows, "photographs", "ssim", "SSIM", 1, 3)
    if not study.rows:
        return []
    return [PHOTOGRAPHS, verdict_section(study, "Photographs: where RL beats the corrupted input"),
            number_section(study, "Photographs: SSIM to the clean patch"), *write_plots(study, folder),
            likeness_section(study, "distance", "Photographs: distance to the clean patch", 3, COLUMNS),
            likeness_section(study, "psnr", "Photographs: PSNR to the clean patch, in dB", 2)]


def write_plots(study, folder):
    """What shows them in the page."""
    made = plots(study)
    for name, svg in made.items():
        (folder / name).write_text(svg, encoding="utf-8")
    return [f"![{name}]({name})" for name in made]


def write(rows, folder, quick):
    """Writes the page and its plots."""
    folder.mkdir(parents=True, exist_ok=True)
    study = Corruptions(rows)
    sections = [INTRODUCTION.format(seeds=len(in_order(row["seed"] for row in rows)))]
    if quick:
        sections.append("**This is the quick form of the study: too few epochs and images to conclude anything.**")
    if study.rows:
        sections += [verdict_section(study, "Where RL beats the corrupted input"),
                     number_section(study, "Top-1 of held-out images, in percent"), *write_plots(study, folder),
                     likeness_section(study, "ssim", "SSIM to the clean image", 3), likeness_section(study, "psnr", "PSNR to the clean image, in dB", 2)]
    sections += photograph_sections(rows, folder)
    sections += [paired_section(rows, "settings", "One setting at a time", "`defocus_blur` of severity 3, five executed steps, differences paired by seed."),
                 paired_section(rows, "demo", "Candidates for the demo", "The demo's own images; `make demo` runs the job of deploy/demo/job.yaml.")]
    (folder / NAME).write_text("\n\n".join(section for section in sections if section) + "\n", encoding="utf-8")
