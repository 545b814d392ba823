"""A label as CLIP sees it, without a classifier of one's own: "a photo of a {label}" for each class (zero-shot).

Logits are the model's logit scale times the cosines of the picture with each class's text. The texts' embeddings are
computed here and lie in the file; the file takes no prompt.
"""
import pathlib

import torch
from torch import nn

import clip_model
import clip_source
import reward_file

MEASURES = ("logit_change", "margin_change", "logit_max_margin")
PARTS = ("correct", "correct_input", "logit")


class Labels(nn.Module):
    """Outputs as the reward type `classifier` defines them.

    logit_change      the label's logit: generated minus input
    margin_change     the margin (the label's logit minus the largest other one): generated minus input
    logit_max_margin  the margin of the generated image
    correct, correct_input   1 where the largest logit is the label's; the first of equal ones counts
    logit             the label's, generated
    All are NaN, which the service takes as an error of that image alone, where the label is none of the classes.
    """

    def __init__(self, source, texts_CE: torch.Tensor):
        super().__init__()
        self.preprocess, self.image_tower = source.preprocess, source.image_tower
        self.register_buffer("texts_CE", texts_CE)  # Times the logit scale.

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        return clip_model.unit(self.image_tower(self.preprocess(images))) @ self.texts_CE.t()

    def margin(self, logits_NC: torch.Tensor, of_label_NC: torch.Tensor, logit_N: torch.Tensor) -> torch.Tensor:
        return logit_N - logits_NC.masked_fill(of_label_NC, -float("inf")).amax(dim=1)

    def forward(self, generated: torch.Tensor, input: torch.Tensor, label: torch.Tensor):  # pylint: disable=redefined-builtin
        after, before = self.logits(generated), self.logits(input)
        known = (label >= 0) & (label < after.size(1))
        index_N1 = label.clamp(0, after.size(1) - 1).unsqueeze(1)  # An index outside would end a GPU's process.
        of_label_NC = torch.zeros_like(after).scatter(1, index_N1, 1.0) > 0
        logit, logit_before = after.gather(1, index_N1).squeeze(1), before.gather(1, index_N1).squeeze(1)
        margin, margin_before = self.margin(after, of_label_NC, logit), self.margin(before, of_label_NC, logit_before)
        correct = (after.argmax(dim=1) == label).to(torch.float32)
        correct_input = (before.argmax(dim=1) == label).to(torch.float32)
        nothing = torch.full_like(logit, float("nan"))
        return (torch.where(known, logit - logit_before, nothing), torch.where(known, margin - margin_before, nothing),
                torch.where(known, margin, nothing), torch.where(known, correct, nothing), torch.where(known, correct_input, nothing),
                torch.where(known, logit, nothing))


def read_classes(path):
    """One name a line; line i, from 0, is the label i."""
    try:
        names = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SystemExit(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SystemExit(f"{path} is not UTF-8") from None
    names = [name.strip() for name in names]
    while names and not names[-1]:
        names.pop()
    if len(names) < 2 or "" in names:
        at = f"line {names.index('') + 1} is empty" if "" in names else f"there are {len(names)}"
        raise SystemExit(f"{path}: a class name on each line, at least two; {at}")
    return names


def class_texts(names, templates):
    for template in templates:
        if "{label}" not in template:
            raise SystemExit(f"--template {template!r} has no {{label}} in it")
    return [[template.replace("{label}", name) for template in templates] for name in names]


@torch.no_grad()
def embed_texts(texts, tokenize, encode):
    """[classes,E]: each class's mean over its texts, of length 1 (as open_clip's zero-shot classifier)."""
    rows = []
    for of_class in texts:
        features = nn.functional.normalize(encode(tokenize(of_class)).float(), dim=-1)
        rows.append(nn.functional.normalize(features.mean(dim=0), dim=0))
    return torch.stack(rows)


def make(source, texts, measure):
    """texts: for each class its texts; measure: of MEASURES."""
    ours = embed_texts(texts, source.tokenize, source.text_tower) * source.logit_scale
    theirs = embed_texts(texts, source.tokenize, source.original_text)

    def logits(images):
        features = nn.functional.normalize(source.original_image(source.preprocess(images)), dim=-1)
        return (source.logit_scale * features @ theirs.T).tolist()

    def original(inputs):
        rows = []
        for after, before, label in zip(logits(inputs["generated"]), logits(inputs["input"]), inputs["label"].tolist()):
            margins = [row[label] - max(value for i, value in enumerate(row) if i != label) for row in (after, before)]
            rows.append([after[label] - before[label], margins[0] - margins[1], margins[0], float(after.index(max(after)) == label),
                         float(before.index(max(before)) == label), after[label]])
        return list(torch.tensor(rows).T)

    return reward_file.Reward(
        Labels(source, ours), ("generated", "input", "label"), original, outputs=MEASURES + PARTS, value=measure,
        num_labels=len(texts), pixels=source.pixels())


def add(commands):
    parser = commands.add_parser("clip-labels", help="logits of \"a photo of a {label}\" by any CLIP with a ViT")
    clip_source.add_arguments(parser)
    parser.add_argument("--classes", metavar="FILE", required=True, help="class names, one a line, in the order of the labels")
    parser.add_argument("--template", metavar="TEXT", action="append", help="text of a class (default: a photo of a {label}); several are averaged")
    parser.add_argument("--measure", choices=MEASURES, default="logit_change",
                        help="which value is the reward (default %(default)s); all are in the metrics")

    def run(options):
        texts = class_texts(read_classes(options.classes), options.template or ["a photo of a {label}"])
        return make(clip_source.load(options), texts, options.measure)

    return parser, run
