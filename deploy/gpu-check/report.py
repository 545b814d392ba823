"""Tables of what was found, and what the goals say."""
import statistics

GB = 1e9
LORA_MEMORY_GOAL = 8.0
MFU_GOAL = 0.35
MOST_RATIO_ERROR = 1e-5  # A tenth of the clip range, as in gpu_check.
LONGEST_KERNELS = 30


def print_head(results):
    machine = results["machine"]
    if results["dry_run"]:
        print("gpu-check, DRY RUN on the CPU: nothing here is measured on a GPU, and no number says how fast anything is.")
    print(f"GPU: {machine.get('gpu') or 'none'}; torch {machine.get('torch') or 'not in this Python'}, CUDA {machine.get('cuda')},"
          f" cuDNN {machine.get('cudnn')}, NCCL {machine.get('nccl')}; C++ runtime: {machine['cxx_runtime']}", flush=True)


def print_parity(parity):
    print("\n1. Parity with recordings of diffusers and of the original (error: of the recorded tensor's norm)")
    if "rows" not in parity:
        print(f"   FAILED: {parity['failed']}", flush=True)
        return
    groups = {}
    for row in parity["rows"]:
        groups.setdefault((row["precision"], row["part"]), []).append(row)
    print(f"   {'':5} {'part':14} {'checks':>6} {'failed':>6} {'worst':>9} {'bound':>9}")
    for (precision, part), rows in groups.items():
        worst = max(rows, key=lambda row: row.get("error", float("inf")) / (row["bound"] or 1e-30))
        failed = sum(not row["passed"] for row in rows)
        print(f"   {precision:5} {part:14} {len(rows):6} {failed:6} {worst.get('error', float('inf')):9.1e} {worst['bound']:9.1e}")
    for row in parity["rows"]:
        if not row["passed"]:
            print(f"   FAILED: {row['precision']} {row['part']} {row['name']}: {row.get('failure') or row.get('error', 'not finite')}")
    print(f"   plain PyTorch on this device, at the size whose speed is measured: {parity['live']}", flush=True)


def print_determinism(rows):
    print("\n2. Equal bits: the same epoch twice in a process, and once in another one")
    for row in rows:
        setting = f"device.deterministic: {str(row['deterministic']).lower():5}"
        if "failed" in row:
            print(f"   {setting} FAILED: {row['failed']}", flush=True)
            continue
        found = ", ".join(f"{what} {'equal' if row[f'{what}_equal_in_a_process'] else 'DIFFERENT'} and"
                          f" {'equal' if row[f'{what}_equal_in_another'] else 'DIFFERENT'}" for what in ("samples", "gradients"))
        print(f"   {setting} {found}; first ratio off by at most {row['ratio_max_error']:.1e}", flush=True)


def print_jobs(jobs):
    print("\n3. Whole jobs of the demo's model: equal settings have to give equal bits")
    for case in jobs["cases"]:
        print(f"   {case['name']:30} {case['seconds']:5.1f} s  {'passed' if case['passed'] else 'FAILED: ' + '; '.join(case['wrong'][:3])}")
    if "why" in jobs:
        print(f"   FAILED, not all were run: {jobs['why']}")
    print(end="", flush=True)


def print_nccl(nccl, dry):
    print("\n4. NCCL")
    if "passed" in nccl:
        print(f"   {nccl['passed']} cases passed, {nccl['failed']} failed; {nccl['ranks']} ranks, NCCL {nccl['nccl']}. {nccl['note']}")
        for case in nccl["cases"]:
            if not case["passed"]:
                print(f"   FAILED: {case['name']}, {case['world_size']} ranks: {'; '.join(case['wrong'][:3])}")
    else:
        print(f"   not run: {nccl.get('note') or nccl.get('failed')}")
    for ranks, shared in nccl.get("sharing", {}).items():
        found = f"{shared['passed']} cases passed, {shared['failed']} failed" if "passed" in shared else f"FAILED: {shared.get('failed')}"
        print(f"   {ranks} processes that share the GPUs: {found}", flush=True)
    if "kill" in nccl:
        seen = nccl["kill"].get("cases", [{}])[0]
        found = f"after {seen['seconds']:.1f} s" if seen.get("passed") else f"FAILED: {seen.get('wrong') or nccl['kill'].get('failed')}"
        print(f"   one of two processes is killed in a round; the other one's wait ends: {found}", flush=True)
    if dry:
        threads = nccl["over_threads"]
        print(f"   its suite over threads and CPU tensors instead: {threads.get('passed', 0)} cases passed,"
              f" {threads.get('failed', 'none ran')} failed", flush=True)


def add_numbers(row):
    """Images per second, shares of a matrix product's speed, and the ratio of the two sides."""
    ours, seed = row["ours"], row.get("seed", {})
    for side in (ours, seed):
        if side.get("epoch_seconds"):
            side["seconds_median"] = statistics.median(side["epoch_seconds"])
            side["images_per_second"] = side["samples_per_epoch"] / side["seconds_median"]
    if "images_per_second" in ours:
        best_product = max(ours["product_flops"], seed.get("product_flops_random", 0))
        ours["mfu"] = ours["model_flops"] / ours["seconds_median"] / best_product
        if "images_per_second" in seed:
            count, samples, steps = ours["count"], seed["samples_per_epoch"], seed["executed_steps"]
            branches = 2 if seed["guidance_scale"] > 1 else 1
            row_flops = branches * count["forward"] + 2 * (count["forward"] + count["backward"])
            seed["model_flops"] = samples * (steps * row_flops + count["encode"] + count["decode"])
            seed["mfu"] = seed["model_flops"] / seed["seconds_median"] / best_product
            row["ratio"] = ours["images_per_second"] / seed["images_per_second"]
    return row


def _side(name, side):
    if "images_per_second" not in side:
        return f"{name}: {'OUT OF MEMORY' if 'out_of_memory' in side else 'FAILED: ' + str(side.get('failed'))}"
    mfu = f"MFU {side['mfu']:5.1%}" if "mfu" in side else "MFU unknown"
    spread = (max(side["epoch_seconds"]) - min(side["epoch_seconds"])) / side["seconds_median"]
    predicted = f" of {side['predicted_bytes'] / GB:.2f} predicted" if side.get("predicted_bytes") else ""
    return (f"{name}: {side['images_per_second']:7.3f} images/s (epochs differ by {spread:.0%}), {mfu},"
            f" {side['memory']['peak_allocated_bytes'] / GB:6.2f} GB{predicted}, UNet {1e3 * side['forward_seconds']:.1f} ms forward,"
            f" {1e3 * side['forward_backward_seconds']:.1f} with backward")


def print_speed_row(row):
    print(f"\n5. Speed, {row['case']}")
    print(f"   {_side('ours', row['ours'])}", flush=True)


def print_original_row(row):
    ratio = f"; ours is {row['ratio']:.2f} times as fast" if "ratio" in row else ""
    print(f"\n7. The original, {row['case']}{ratio}")
    print(f"   {_side('original', row['seed'])}", flush=True)


def sum_up_trace(trace, kernels):
    """Of what a device did (or, without one, of the operators): time by name, busy share, gaps. Microseconds in the trace."""
    wanted = {"kernel", "gpu_memcpy", "gpu_memset"} if kernels else {"cpu_op"}
    events = sorted((event["ts"], event["ts"] + event["dur"], event["name"]) for event in trace["traceEvents"]
                    if event.get("ph") == "X" and event.get("cat") in wanted)
    if not events:
        return {"failed": "the trace has no kernels" if kernels else "the trace has no operators"}
    by_name, gaps = {}, []
    busy, end = 0, events[0][0]
    for first, last, name in events:
        calls, total = by_name.get(name, (0, 0))
        by_name[name] = (calls + 1, total + last - first)
        if first > end:
            gaps.append(first - end)
        busy += max(0, last - max(first, end))
        end = max(end, last)
    span = end - events[0][0]
    longest = sorted(by_name.items(), key=lambda item: -item[1][1])[:LONGEST_KERNELS]
    return {"span_ms": span / 1e3, "busy_share": busy / span if span else 1, "events": len(events),
            "gaps_above_20_us": sum(gap > 20 for gap in gaps), "longest_gap_us": max(gaps, default=0),
            "longest": [{"name": name[:120], "calls": calls, "ms": total / 1e3} for name, (calls, total) in longest]}


def print_trace(trace):
    print("\n6. Trace of two steps, sampled and replayed")
    if "failed" in trace:
        print(f"   FAILED: {trace['failed']}", flush=True)
        return
    print(f"   {trace['events']} calls in {trace['span_ms']:.1f} ms, busy {trace['busy_share']:.1%} of them;"
          f" {trace['gaps_above_20_us']} gaps above 20 us, the longest {trace['longest_gap_us']:.0f} us")
    for row in trace["longest"][:10]:
        print(f"   {row['ms']:9.2f} ms {row['calls']:6} {row['name']}", flush=True)


def goals(rows):
    """[{goal, found, reached}]; found None: it was not measured."""
    by_name = {row["case"]: row for row in rows}

    def goal(text, case, number, reached):
        found = number(by_name[case]) if case in by_name else None
        return {"goal": text, "case": case, "found": found, "reached": found is not None and reached(found)}

    def ratio(row):
        return row.get("ratio")

    def mfu(row):
        return row["ours"].get("mfu")

    def memory(row):
        side = row["ours"]
        if "memory" not in side:
            return None
        return max(side[when]["peak_allocated_bytes"] for when in ("memory", "load_memory")) / GB

    result = []
    result += [goal("single_pass at guidance 1: 2 times the original's images/s", "bf16-g1", ratio, lambda x: x >= 2),
               goal("replay at guidance 7.5: 1.5 times the original's images/s", "bf16-g7.5", ratio, lambda x: x >= 1.5)]
    for precision in ("bf16", "fp32"):
        result += [goal(f"SD 1.5 LoRA at batch 1: below {LORA_MEMORY_GOAL:.0f} GB", f"{precision}-batch-1", memory,
                        lambda x: x < LORA_MEMORY_GOAL),
                   goal(f"MFU of at least {MFU_GOAL:.0%}", f"{precision}-g1", mfu, lambda x: x >= MFU_GOAL)]
    return result


def _failures(results):
    """What ran and was wrong, and what should have run and did not."""
    found = []
    if "parity" in results and results["parity"].get("failed", 1) != 0:
        found.append("parity")
    if "parity" in results and results["parity"].get("live", "run").startswith(("ended", "was not", "no time")):
        found.append("the reference on this device")
    jobs = results.get("jobs", {"cases": [], "exit_code": 0})
    found += [f"whole jobs, {case['name']}" for case in jobs["cases"] if not case["passed"]]
    if jobs["exit_code"] not in (0, 1):
        found.append("jobs_check")
    nccl = results.get("nccl")
    if nccl is not None:
        code = nccl.get("exit_code")
        if code != 0 and not (results["dry_run"] and code == 2):
            found.append("nccl_check")
        if nccl.get("over_threads", {}).get("exit_code", 0) != 0:
            found.append("the transport suite over threads")
        found += [f"{ranks} processes that share the GPUs" for ranks, shared in nccl.get("sharing", {}).items()
                  if shared.get("exit_code") != 0]
        if "kill" in nccl and nccl["kill"].get("exit_code") != 0:
            found.append("a rank that outlives another")
    for row in results.get("determinism", []):
        if "failed" in row:
            found.append(f"equal bits: {row['failed'][-200:]}")
        elif row["deterministic"]:
            found += [name.replace("_", " ") for name, equal in row.items() if "_equal_" in name and not equal]
            if row["ratio_max_error"] > MOST_RATIO_ERROR:
                found.append(f"the first ratio is off by {row['ratio_max_error']:.1e}")
    if "failed" in results.get("trace", {}):
        found.append(f"trace: {results['trace']['failed'][-200:]}")
    for row in results.get("speed", []):
        for side in ("ours", "seed"):
            if "failed" in row.get(side, {}) and not (side == "seed" and not results["machine"].get("torch")):
                found.append(f"{row['case']} ({side}): {row[side]['failed'][-200:]}")
    return found


def passed(results):
    results["failures"] = _failures(results)
    return not results["failures"]


def print_end(results):
    if results.get("goals"):
        print("\nGoals")
        for goal in results["goals"]:
            unknown = goal["found"] is None
            verdict = "unknown" if unknown else "reached" if goal["reached"] else "MISSED"
            found = "not measured" if unknown else f"{goal['found']:.2f}"
            print(f"   {verdict:7}  {goal['goal']} ({goal['case']}): {found}")
    print(f"\n{'passed' if results['passed'] else 'FAILED: ' + '; '.join(results['failures'])}, {results['seconds']:.0f} s")
    if results["dry_run"]:
        print("This was a dry run: nothing was measured on a GPU.")
