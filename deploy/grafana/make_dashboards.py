#!/usr/bin/env python3
"""Writes dashboards/*.json from the table of metrics.

  deploy/grafana/make_dashboards.py            # after a metric or a panel has changed
  deploy/grafana/make_dashboards.py --check    # says which files are not what the table gives

What a metric means is said in common/metrics/names.h and common/metrics/epoch_metrics.cc; panels show it as their
description. A number of an epoch that no panel names gets a panel of its own on the dashboard of a job.
"""
import argparse
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
SOURCES = [HERE.parents[1] / "common/metrics" / file for file in ("names.h", "epoch_metrics.cc")]
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
OF_JOB = '{job_id=~"$job_id"}'
WIDTH = 24


def metrics():
    """{name: (kind, labels, help)} of the table."""
    string = r'"((?:[^"\\]|\\.)*)"'
    entry = re.compile(rf'{string},\s*Kind::k(\w+),\s*{string},\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\}}')
    found = {}
    for file in SOURCES:
        for name, kind, labels, texts in entry.findall(file.read_text()):
            found[name] = (kind.lower(), labels, "".join(re.findall(string, texts)))
    return found


class Panel:
    def __init__(self, title, *queries, unit="short", legend="{{job_name}} ({{job_id}})", kind="timeseries", width=8,
                 only=None):
        """queries: a metric's name, or PromQL, or a pair of PromQL and legend. only: where the panel has data at all."""
        self.title, self.unit, self.kind, self.width, self.only = title, unit, kind, width, only
        self.queries = [query if isinstance(query, tuple) else (query, legend) for query in queries]


def gauge(name, title, **settings):
    return Panel(title, f"imageddpo_job_{name}{OF_JOB}", **settings)


def quantile(q, histogram, by, window="$__rate_interval"):
    return f"histogram_quantile({q}, sum by ({by}) (rate({histogram}_bucket[{window}])))"


def ratio(kind, title, **settings):
    return Panel(title, (f"imageddpo_job_{kind}_ratio_mean{OF_JOB}", "mean, {{job_id}}"),
                 (f"imageddpo_job_{kind}_ratio_std{OF_JOB}", "deviation, {{job_id}}"), **settings)


def parts(name, title, **settings):
    return gauge(name, title, legend="{{part}}, {{job_id}}", **settings)


JOB_ROWS = {
    "Learning": [
        gauge("reward_mean", "Reward"),
        Panel("Reward, quantiles", *[(f"imageddpo_job_reward_{q}{OF_JOB}", f"{q}, {{{{job_id}}}}")
                                     for q in ("min", "p10", "median", "p90", "max")]),
        gauge("reward_std", "Reward spread"),
        parts("part_mean", "Parts of the rewards"),
        Panel("Held-out reward", f"imageddpo_job_eval_reward_mean{OF_JOB}",
              (f"imageddpo_job_eval_reward_stderr{OF_JOB}", "standard error, {{job_id}}")),
        parts("eval_part_mean", "Held-out parts"),
        gauge("eval_epoch", "Epochs before the held-out numbers"),
        Panel("Advantages", (f"imageddpo_job_advantage_std{OF_JOB}", "deviation, {{job_id}}"),
              (f"imageddpo_job_advantage_max{OF_JOB}", "largest, {{job_id}}")),
        gauge("left_out_fraction", "Samples left out", unit="percentunit"),
        gauge("zero_std_ratio", "Groups with equal rewards", unit="percentunit", only="advantage.mode: group"),
    ],
    "Update": [
        gauge("loss", "Loss"),
        gauge("sft_loss", "Supervised loss", only="train.objective: sft"),
        gauge("approx_kl", "Approximate KL"),
        Panel("Clip fraction", (f"imageddpo_job_clip_fraction{OF_JOB}", "both, {{job_id}}"),
              (f"imageddpo_job_clip_fraction_high{OF_JOB}", "above, {{job_id}}"),
              (f"imageddpo_job_clip_fraction_low{OF_JOB}", "below, {{job_id}}"), unit="percentunit"),
        gauge("grad_norm", "Gradient norm"),
        gauge("update_norm", "Update norm"),
        gauge("learning_rate", "Learning rate"),
        gauge("ratio_first_step_max_error", "Ratio error before the first update"),
        ratio("proximal", "Ratio"),
        ratio("behaviour", "Behaviour ratio", only="sample.max_staleness"),
        gauge("sample_age", "Sample age", only="sample.max_staleness"),
        Panel("Divergence of a step", (f"imageddpo_job_kl_step_mean{OF_JOB}", "mean, {{job_id}}"),
              (f"imageddpo_job_kl_step_max{OF_JOB}", "largest, {{job_id}}"), only="train.trust_region: kl"),
        gauge("masked_fraction", "Steps without a gradient", unit="percentunit", only="train.trust_region: kl"),
        gauge("kl_to_base", "Divergence from the base model", only="train.kl_coef"),
        gauge("ema_distance", "Distance from the moving average", only="train.ema_decay"),
        gauge("loss_scale", "Loss scale", only="model.precision: fp16"),
        gauge("skipped_updates", "Skipped updates", only="model.precision: fp16 or train.max_grad_zscore"),
        gauge("images_skipped", "Images that cannot be read", only="data.on_error: skip"),
    ],
    "Speed": [
        gauge("images_per_second", "Images per second"),
        Panel("Samples per second", f"rate(imageddpo_job_samples_total{OF_JOB}[10m])"),
        Panel("Time per epoch by stage", (f"imageddpo_job_epoch_stage_seconds{OF_JOB}", "{{stage}}, {{job_id}}"),
              (f"imageddpo_job_epoch_seconds{OF_JOB}", "whole epoch, {{job_id}}"), unit="s"),
        Panel("Share of time by stage", f"rate(imageddpo_job_stage_seconds_total{OF_JOB}[10m])",
              legend="{{stage}}, {{job_id}}", unit="percentunit"),
        gauge("mfu", "MFU", unit="percentunit"),
        Panel("Epochs per minute", f"60 * rate(imageddpo_job_epochs_total{OF_JOB}[10m])"),
    ],
    "Safety": [
        Panel("Epochs since the checkpoint", f"imageddpo_job_epoch{OF_JOB} - on (job_id, job_name) "
              f"imageddpo_job_checkpoint_epoch{OF_JOB}"),
        Panel("Age of the checkpoint", f"time() - imageddpo_job_checkpoint_time_seconds{OF_JOB}", unit="s"),
        Panel("Checkpoints", (f"imageddpo_job_checkpoint_bytes{OF_JOB}", "bytes, {{job_id}}"), unit="bytes"),
        Panel("Resumes and warnings", (f"imageddpo_job_resumes_total{OF_JOB}", "resumes, {{job_id}}"),
              (f"imageddpo_job_warnings_total{OF_JOB}", "warnings, {{job_id}}"),
              (f"imageddpo_job_reward_errors_total{OF_JOB}", "reward errors, {{job_id}}")),
        Panel("Guards that fired", (f"imageddpo_job_guard_firings_total{OF_JOB}", "{{guard}}, {{job_id}}"),
              only="guards that fired"),
        Panel("Runs, waits", (f"imageddpo_job_running{OF_JOB}", "runs, {{job_id}}"),
              (f"imageddpo_job_waiting{OF_JOB}", "waits, {{job_id}}")),
        Panel("Time since the last epoch", f"time() - imageddpo_job_epoch_time_seconds{OF_JOB}", unit="s"),
    ],
}

COMPARE_ROWS = {
    "Over samples": [
        gauge("reward_mean", "Reward", width=12),
        gauge("eval_reward_mean", "Held-out reward", width=12),
        gauge("samples_seen", "Samples seen", kind="bargauge", width=12),
        Panel("Epochs done", f"imageddpo_job_epoch{OF_JOB} / on (job_id, job_name) (imageddpo_job_num_epochs{OF_JOB} > 0)",
              unit="percentunit", kind="bargauge", width=12),
    ],
    "Which is better": [
        gauge("eval_reward_mean", "Newest held-out reward", kind="bargauge"),
        gauge("eval_reward_stderr", "Its standard error", kind="bargauge"),
        Panel("Best reward of an epoch", f"max_over_time(imageddpo_job_reward_mean{OF_JOB}[24h])", kind="bargauge"),
        parts("eval_part_mean", "Newest held-out parts", kind="bargauge", width=12),
        parts("eval_part_stderr", "Their standard errors", kind="bargauge", width=12),
    ],
    "How they train": [
        gauge("approx_kl", "Approximate KL"),
        gauge("clip_fraction", "Clip fraction", unit="percentunit"),
        gauge("update_norm", "Update norm"),
        gauge("reward_std", "Reward spread"),
        gauge("epoch_seconds", "Seconds per epoch", unit="s"),
        gauge("mfu", "MFU", unit="percentunit"),
    ],
}

CLUSTER_ROWS = {
    "Overview": [
        Panel("Jobs running", 'imageddpo_jobs{state="RUNNING"}', kind="stat", width=4, legend="running"),
        Panel("Jobs waiting", "imageddpo_queue_depth", kind="stat", width=4, legend="waiting"),
        Panel("Workers alive", 'sum(imageddpo_workers{state=~"idle|busy"})', kind="stat", width=4, legend="alive"),
        Panel("Workers lost", "imageddpo_worker_deaths_total", kind="stat", width=4, legend="lost"),
        Panel("Free for data_dir", "imageddpo_data_dir_free_bytes", kind="stat", width=4, unit="bytes", legend="free"),
        Panel("Up since", "imageddpo_process_start_time_seconds * 1000", kind="stat", width=4, unit="dateTimeAsIso",
              legend="up since"),
        Panel("Epochs done", f"imageddpo_job_epoch{OF_JOB} / on (job_id, job_name) (imageddpo_job_num_epochs{OF_JOB} > 0)",
              unit="percentunit", kind="bargauge", width=12),
        Panel("Topology", f"imageddpo_job_info{OF_JOB}", kind="table", legend="", width=12),
    ],
    "Jobs": [
        Panel("Jobs by state", "imageddpo_jobs > 0", legend="{{state}}"),
        Panel("State changes per minute", "60 * rate(imageddpo_job_transitions_total[$__rate_interval])",
              legend="{{state}}"),
        Panel("Waiting in the queue, 90th percentile since the start",
              "histogram_quantile(0.9, sum by (le) (imageddpo_queue_wait_seconds_bucket))", legend="queue", unit="s"),
    ],
    "Ranks": [
        Panel("Workers by state", "imageddpo_workers", legend="{{state}}"),
        Panel("Heartbeat age", "imageddpo_worker_heartbeat_age_seconds", legend="rank {{rank}}", unit="s"),
        Panel("Slow workers", "increase(imageddpo_worker_slow_total[1h])", legend="rank {{rank}}",
              only="a worker that was slow"),
        Panel("Memory on the host", "imageddpo_rank_resident_bytes", legend="rank {{rank}}", unit="bytes"),
        Panel("Memory on the GPU", ("imageddpo_rank_device_allocated_bytes", "rank {{rank}}, used"),
              ("imageddpo_rank_device_reserved_bytes", "rank {{rank}}, held"), unit="bytes", only="GPUs"),
        Panel("GPU memory in use by anyone", "imageddpo_rank_gpu_used_bytes", legend="rank {{rank}}", unit="bytes", only="GPUs"),
        Panel("GPU power", "imageddpo_rank_gpu_power_watts", legend="rank {{rank}}", unit="watt", only="GPUs"),
        Panel("GPU busy", "imageddpo_rank_gpu_busy_ratio", legend="rank {{rank}}", unit="percentunit", only="GPUs"),
        Panel("Sent per second by transport", "sum by (transport) (rate(imageddpo_rank_sent_bytes_total"
              "[$__rate_interval]))", legend="{{transport}}", unit="Bps"),
        Panel("Sent per second by rank", "sum by (rank) (rate(imageddpo_rank_sent_bytes_total[$__rate_interval]))",
              legend="rank {{rank}}", unit="Bps"),
        Panel("Stages, median over all jobs", quantile(0.5, "imageddpo_stage_seconds", "stage, le", "1h"),
              legend="{{stage}}", unit="s"),
        Panel("Who waits", 'sum by (stage) (rate(imageddpo_job_stage_seconds_total{stage=~"wait|rollout_wait"}[10m]))',
              legend="{{stage}}", unit="percentunit"),
    ],
}

SERVICE_ROWS = {
    "API": [
        Panel("Calls per second", "sum by (method, code) (rate(imageddpo_rpcs_total[$__rate_interval]))",
              legend="{{method}} {{code}}", unit="reqps"),
        Panel("Latency, 95th percentile", 'histogram_quantile(0.95, sum by (method, le) (rate('
              'imageddpo_rpc_duration_seconds_bucket{method!="WatchJob"}[$__rate_interval])))',
              legend="{{method}}", unit="s"),
        Panel("Certificate's last days", "(imageddpo_certificate_expiry_time_seconds - time()) / 86400", legend="days left",
              only="TLS"),
    ],
    "Controller": [
        Panel("Round of the thread, 99th percentile", quantile(0.99, "imageddpo_tick_seconds", "le"), legend="round",
              unit="s"),
        Panel("Storing a change, 99th percentile", quantile(0.99, "imageddpo_store_write_seconds", "le", "10m"),
              legend="change", unit="s"),
        Panel("Writing a checkpoint, 90th percentile", quantile(0.9, "imageddpo_checkpoint_write_seconds", "le", "10m"),
              legend="checkpoint", unit="s"),
        Panel("Checkpoints per hour", f"3600 * rate(imageddpo_job_checkpoints_total{OF_JOB}[10m])"),
        Panel("Free for data_dir", ("imageddpo_data_dir_free_bytes", "free"),
              ("imageddpo_retention_removed_bytes_total", "removed by retention"), unit="bytes"),
        Panel("Build", "imageddpo_build_info", kind="table", legend=""),
    ],
    "Reward services": [
        Panel("Calls per second", "sum by (outcome) (rate(imageddpo_reward_call_seconds_count[$__rate_interval]))",
              legend="{{outcome}}", unit="reqps", width=12),
        Panel("Latency, 95th percentile", quantile(0.95, "imageddpo_reward_call_seconds", "outcome, le"),
              legend="{{outcome}}", unit="s", width=12, only="a reward of type: service"),
    ],
}

DASHBOARDS = {
    "job": ("imageddpo: a job", "How a job learns, how fast it is and how safe its state is.", JOB_ROWS, False),
    "compare": ("imageddpo: compare jobs", "Several jobs over one another.", COMPARE_ROWS, True),
    "cluster": ("imageddpo: cluster", "Jobs, queue and ranks.", CLUSTER_ROWS, True),
    "service": ("imageddpo: service", "API, controller, disk and reward services.", SERVICE_ROWS, True),
}


def named_in(rows):
    return set(re.findall(r"imageddpo_\w+", " ".join(
        query for panels in rows.values() for panel in panels for query, _ in panel.queries)))


def rows_of(name):
    """The rows of a dashboard; those of a job have every number of an epoch."""
    rows = DASHBOARDS[name][2]
    if name != "job":
        return rows
    shown = named_in(rows) | {"imageddpo_job_samples_seen"}  # An axis, not a curve.
    epoch_metrics = re.findall(r'"(imageddpo_job_\w+)"', SOURCES[1].read_text())
    more = [Panel(metric.removeprefix("imageddpo_job_").replace("_", " ").capitalize(), metric + OF_JOB)
            for metric in epoch_metrics if metric not in shown]
    return {**rows, "More": more} if more else rows


def description(panel, table):
    helps = []
    for name in re.findall(r"imageddpo_\w+", " ".join(query for query, _ in panel.queries)):
        help_text = table[re.sub(r"_(bucket|sum|count)$", "", name) if name not in table else name][2]
        if help_text not in helps:
            helps.append(help_text)
    return " ".join(helps) + (f" Only with {panel.only}." if panel.only else "")


def panel_json(panel, number, x, y, table):
    height = 4 if panel.kind == "stat" else 8
    instant = panel.kind != "timeseries"
    targets = [{"refId": "ABCDEFGH"[i], "datasource": DATASOURCE, "expr": query, "legendFormat": legend,
                "instant": instant, "range": not instant,
                **({"format": "table"} if panel.kind == "table" else {})}
               for i, (query, legend) in enumerate(panel.queries)]
    options = {} if not instant or panel.kind == "table" else {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    return height, {
        "id": number, "type": panel.kind, "title": panel.title, "description": description(panel, table),
        "datasource": DATASOURCE, "gridPos": {"x": x, "y": y, "w": panel.width, "h": height}, "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []}, "options": options}


def variables(multi):
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus", "current": {}, "hide": 0},
        {"name": "job_id", "type": "query", "label": "Job", "datasource": DATASOURCE,
         "query": {"query": "label_values(imageddpo_job_num_epochs, job_id)", "refId": "jobs"},
         "definition": "label_values(imageddpo_job_num_epochs, job_id)", "refresh": 2, "multi": multi,
         "includeAll": multi, "allValue": ".*" if multi else None, "sort": 2,
         "current": {"text": "All", "value": "$__all"} if multi else {}, "hide": 0}]


def dashboard(name, table):
    title, about, _, multi = DASHBOARDS[name]
    panels, number, y = [], 1, 0
    for row, content in rows_of(name).items():
        panels.append({"id": number, "type": "row", "title": row, "collapsed": False, "panels": [],
                       "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
        number, y, x, tallest = number + 1, y + 1, 0, 0
        for panel in content:
            if x + panel.width > WIDTH:
                x, y, tallest = 0, y + tallest, 0
            height, found = panel_json(panel, number, x, y, table)
            panels.append(found)
            number, x, tallest = number + 1, x + panel.width, max(tallest, height)
        y += tallest
    return {"uid": f"imageddpo-{name}", "title": title, "description": about, "tags": ["imageddpo"], "schemaVersion": 37,
            "version": 1, "editable": True, "graphTooltip": 1, "refresh": "10s", "timezone": "", "timepicker": {},
            "time": {"from": "now-6h", "to": "now"}, "annotations": {"list": []},
            "links": [{"type": "dashboards", "tags": ["imageddpo"], "title": "imageddpo", "asDropdown": False,
                       "includeVars": True, "keepTime": True}],
            "templating": {"list": variables(multi)}, "panels": panels}


def texts():
    """{file name: content}"""
    table = metrics()
    shown = set().union(*(named_in(rows_of(name)) for name in DASHBOARDS))
    shown |= {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    if missing := sorted(set(table) - shown):
        sys.exit(f"make_dashboards: no panel shows {', '.join(missing)}; add one")
    return {f"{name}.json": json.dumps(dashboard(name, table), indent=1) + "\n" for name in DASHBOARDS}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file would change")
    check = parser.parse_args().check
    folder = HERE / "dashboards"
    stale = []
    for name, text in texts().items():
        if check and (not (folder / name).exists() or (folder / name).read_text() != text):
            stale.append(name)
        elif not check:
            (folder / name).write_text(text)
    if stale:
        sys.exit(f"make_dashboards: {', '.join(stale)} in {folder} is not what the table of metrics gives; "
                 "run deploy/grafana/make_dashboards.py")


if __name__ == "__main__":
    main()
