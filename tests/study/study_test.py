#!/usr/bin/env python3
"""The study's plan and page, from made-up rows: no service, no training."""
import pathlib
import sys
import tempfile
import unittest
import xml.etree.ElementTree

sys.dont_write_bytecode = True
import page  # noqa: E402
import plan  # noqa: E402


def row(case, severity, treatment, seed, given, before, after, part="corruptions"):
    numbers = {"ssim": 0.5, "psnr": 20.0}
    return {"part": part, "case": case, "severity": severity, "treatment": treatment, "seed": seed, "train_seconds": 60.0,
            "before": {"input": given, "accuracy": before, **numbers}, "after": {"input": given, "accuracy": after, **numbers}}


class Plan(unittest.TestCase):
    def test_has_every_cell_once_and_what_a_cell_starts_from_before_it(self):
        cells = plan.cells(plan.PARTS, "out/study/data", "out/study/photographs", False)
        self.assertEqual(len([c for c in cells if c.part == "corruptions"]), 6 * 3 * 3 * 3)
        self.assertEqual(len([c for c in cells if c.part == "photographs"]), 6 * 3 * 3 * 3)
        self.assertEqual(len([c for c in cells if c.part == "settings"]), len(plan.SETTINGS) * 3)
        self.assertEqual(len([c for c in cells if c.part == "demo"]), len(plan.DEMO) * 3)
        seen = set()
        for cell in cells:
            self.assertNotIn(cell.key, seen)
            seen.add(cell.key)
            if cell.starts_from:
                self.assertIn(cell.starts_from.key, seen)
                self.assertEqual(cell.starts_from.seed, cell.seed)

    def test_other_settings_are_another_job(self):
        one, = plan.cells(["demo"], "d", "p", True)
        other = plan.Cell(one.part, one.case, one.severity, one.treatment, one.seed, (*one.settings, "train.batch_size=16"))
        self.assertNotEqual(one.key, other.key)
        self.assertEqual(one.key, plan.cells(["demo"], "d", "p", True)[0].key)

    def test_photographs_have_their_own_model_and_no_labels(self):
        for cell in plan.cells(["photographs"], "d", "p", True):
            text = " ".join(cell.settings)
            self.assertIn("model.path=p/model", text)
            self.assertIn("data.path=p/train", text)
            self.assertIn("{type: ssim, reference: target}", text)
            self.assertIn("model: p/likeness.pt", text)
            self.assertNotIn("classifier", text)

    def test_the_quick_form_is_small(self):
        self.assertLessEqual(len(plan.cells(["corruptions", "settings"], "d", "p", True)), 5)


class Page(unittest.TestCase):
    def test_estimates(self):
        mean, error = page.estimate([1.0, 2.0, 3.0])
        self.assertAlmostEqual(mean, 2)
        self.assertAlmostEqual(error, 1 / 3 ** 0.5)
        self.assertEqual(page.text_of([0.5]), "50.0")
        self.assertEqual(page.text_of([0.1, 0.2, 0.3], signed=True), "+20.0 ± 5.8")
        self.assertFalse(page.is_certainly_above([0.1]), "one seed has no error")
        self.assertTrue(page.is_certainly_above([0.1, 0.11, 0.12]))
        self.assertFalse(page.is_certainly_above([0.1, -0.1, 0.05]))

    def test_tells_where_training_does_not_beat_the_input(self):
        rows = []
        for seed in (1, 2, 3):
            for treatment, after in (("rl", 0.7), ("sft", 0.55), ("sft_rl", 0.72)):
                rows.append(row("fog", 3, treatment, seed, 0.6, 0.5, after + seed / 100))
                rows.append(row("pixelate", 3, treatment, seed, 0.9, 0.5, after + seed / 100))
        rows.append(row("base", 3, "rl", 1, 0.6, 0.5, 0.7, "settings"))
        rows.append(row("average", 3, "rl", 1, 0.6, 0.5, 0.75, "settings"))
        with tempfile.TemporaryDirectory(prefix="imageddpo-study-") as name:
            folder = pathlib.Path(name)
            page.write(rows, folder, False)
            text = (folder / page.NAME).read_text()
            xml.etree.ElementTree.parse(folder / "corruptions-3.svg")
        self.assertIn("In 1 of 2 corruptions, the mean over severities (top-1)", text)
        self.assertNotIn("Photographs", text)
        self.assertIn("| `fog` | +12.0 ± 0.6 | +22.0 ± 0.6 | -10.0 ± 0.0 | yes |", text)
        self.assertIn("| `pixelate` | -18.0 ± 0.6 |", text)
        self.assertIn("**no** |", text)
        self.assertIn("| `fog` | 3 | 60.0 ± 0.0 | 50.0 ± 0.0 | 72.0 ± 0.6 | 57.0 ± 0.6 | 74.0 ± 0.6 | +12.0 ± 0.6 | +15.0 ± 0.0 |", text)
        self.assertIn("| average | 75.0 | +15.0 | +5.0 | 60 |", text)
        self.assertNotIn("Candidates for the demo", text)


    def test_photographs_are_judged_by_their_likeness(self):
        rows = []
        for seed in (1, 2, 3):
            for treatment, after in (("rl", 0.7), ("sft", 0.65), ("sft_rl", 0.72)):
                made = row("fog", 3, treatment, seed, None, None, None, "photographs")
                made["before"].update(ssim=0.5, input_ssim=0.6, distance=0.4, input_distance=0.25)
                made["after"].update(ssim=after + seed / 1000, input_ssim=0.6, distance=0.3, input_distance=0.25)
                rows.append(made)
        with tempfile.TemporaryDirectory(prefix="imageddpo-study-") as name:
            folder = pathlib.Path(name)
            page.write(rows, folder, False)
            text = (folder / page.NAME).read_text()
            xml.etree.ElementTree.parse(folder / "photographs-3.svg")
        self.assertIn("In 1 of 1 corruptions, the mean over severities (SSIM)", text)
        self.assertIn("| `fog` | 3 | 0.600 ± 0.000 | 0.500 ± 0.000 | 0.702 ± 0.001 | 0.652 ± 0.001 | 0.722 ± 0.001 | +0.102 ± 0.001 | +0.050 ± 0.000 |", text)
        self.assertIn("| `fog` | 3 | 0.250 ± 0.000 | 0.400 ± 0.000 | 0.300 ± 0.000 |", text)
        self.assertNotIn("Top-1", text)


if __name__ == "__main__":
    unittest.main()
