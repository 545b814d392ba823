// Which charts a job has, from the names of its numbers (docs/formats.md: metrics.jsonl, timings.jsonl).

import { chart } from "./chart.js";

const GROUPS = [
  ["Reward", ["reward_mean"]],
  ["Reward's spread", ["reward_std"]],
  ["KL", ["approx_kl", "kl_step_mean", "kl_to_base"]],
  ["Clip fraction", ["clipfrac", "clip_fraction_high", "clip_fraction_low", "masked_fraction"]],
  ["Gradient norm", ["grad_norm"]],
  ["Learning rate", ["learning_rate"]],
  ["Loss", ["loss"]],
  ["Groups without spread", ["zero_std_ratio"]],
  ["Ratio's error before the first step", ["ratio_first_step_max_error"]],
];
const LABELS = { reward_mean: "mean", reward_std: "standard deviation", approx_kl: "approximate", kl_step_mean: "per step", kl_to_base: "to the base model",
  clipfrac: "both sides", clip_fraction_high: "above", clip_fraction_low: "below", masked_fraction: "masked" };
const PARTS = "parts_mean.";

function curvesOf(series, names) {
  return names.filter((name) => series[name]).map((name) => ({ label: LABELS[name] || name, ...series[name] }));
}

/** The reward of each evaluation. */
function evaluationCurve(evaluations) {
  return { label: "held-out images", x: evaluations.map((e) => Number(e.epoch)), y: evaluations.map((e) => (typeof e.reward_mean === "number" ? e.reward_mean : null)) };
}

/** "Approx kl" for approx_kl. */
function titleOf(name) {
  const words = name.startsWith(PARTS) ? name.slice(PARTS.length) : name.replaceAll("_", " ").replace(".", ": ");
  return name.startsWith(PARTS) ? words : words[0].toUpperCase() + words.slice(1);
}

/** The charts of a job, in order; numbers that have no group get a chart of their own. */
export function jobCharts(metrics, evaluations) {
  const { series } = metrics;
  const known = new Set(GROUPS.flatMap(([, names]) => names));
  const charts = GROUPS.map(([title, names]) => [title, curvesOf(series, names)]);
  if (evaluations.length) charts.splice(1, 0, ["Reward of held-out images", [evaluationCurve(evaluations)]]);
  const parts = Object.keys(series).filter((name) => name.startsWith(PARTS));
  if (parts.length) charts.splice(1, 0, ["Parts of the reward", parts.map((name) => ({ label: name.slice(PARTS.length), ...series[name] }))]);
  for (const name of Object.keys(series)) {
    if (!known.has(name) && !name.startsWith(PARTS)) charts.push([titleOf(name), [{ label: name, ...series[name] }]]);
  }
  return charts.filter(([, curves]) => curves.length).map(([title, curves]) => chart(title, curves));
}

const STAGES = [["sample_seconds", "rollout: sampling"], ["reward_seconds", "rollout: waiting for rewards"], ["rollout_wait_seconds", "rollout: waiting for weights or a trainer"]];
const TRAINER_STAGES = [["wait_seconds", "trainer: waiting for samples"], ["train_seconds", "trainer: training"], ["publish_seconds", "trainer: publishing"]];

/** Two stacked charts, of the rollout ranks and of the trainer: who waits for whom. */
export function stageCharts(timings) {
  const stages = (list) => list.filter(([name]) => timings.series[name]).map(([name, label]) => ({ label: label.split(": ")[1], ...timings.series[name] }));
  const charts = [];
  for (const [title, list] of [["Rollout ranks, seconds of an epoch", STAGES], ["Trainer, seconds of an epoch", TRAINER_STAGES]]) {
    const curves = stages(list);
    const same = curves.filter((curve) => curve.x.length === curves[0].x.length);
    if (same.length) charts.push(chart(title, same, { stacked: true }));
  }
  for (const [name, title] of [["images_per_second", "Images per second"], ["mfu", "MFU"]]) {
    if (timings.series[name]) charts.push(chart(title, [{ label: title, ...timings.series[name] }]));
  }
  return charts;
}

/** One chart for each number that at least one of the jobs has: curves of several jobs over one another. */
export function comparedCharts(jobs, names) {
  return names.map((name) => {
    const curves = jobs.filter((job) => job.metrics.series[name]).map((job) => ({ label: job.label, ...job.metrics.series[name] }));
    return curves.length ? chart(titleOf(name), curves) : null;
  }).filter(Boolean);
}
