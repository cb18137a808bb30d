"""The benchmarks: their arithmetic by hand, their tables from planted figures, and the GPU's script at a toy shape."""

import contextlib
import io
import json
import random
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]

import bench  # noqa: E402
import gpu  # noqa: E402
import growth  # noqa: E402
import measure  # noqa: E402
from tiny_models import padded_batch, random_rows, tiny_model  # noqa: E402

ROW_FIELDS = {
    "method", "side", "checkpointing", "parameters", "batch_size", "micro_batch_size", "fits", "seconds", "positions",
    "tokens", "flops", "peak_bytes", "largest_micro_batch", "ended_by",
}  # fmt: skip
PLACE = {
    "date": "2030-01-02T03:04:05+00:00",
    "git": {"commit": "0" * 40, "dirty": False},
    "hardware": {"cpu": "A Processor", "cores": 2, "memory_bytes": 1, "gpus": [], "os": "an OS"},
    "versions": dict.fromkeys(measure.PACKAGES, "1.0"),
}


@pytest.mark.parametrize(
    ("counts", "checkpointing", "expected"),
    [
        # N 100, LoRA 10, head 1000
        ((1, 0, 0, 0), False, 220),  # one position forward: 2 * 110
        ((1, 1, 0, 0), False, 220 + 240),  # and backward: 2 * (100 + 2 * 10), frozen weights have no gradient
        ((1, 1, 0, 0), True, 220 + 240 + 220),  # and the forward pass once more
        ((0, 0, 3, 1), False, 6000 + 2000),  # three positions through the output layer, one of them back
        ((5, 2, 1, 1), False, 5 * 220 + 2 * 240 + 2000 + 2000),
    ],
)
def test_flops_by_hand(counts, checkpointing, expected):
    assert measure.flops(measure.Counts(*counts), 100, 10, 1000, checkpointing) == expected


def test_the_meter_counts_what_the_model_was_given():
    from trl.trainer.utils import add_fused_lm_head

    model = tiny_model("llama")
    add_fused_lm_head(model.get_base_model())
    gauge = measure.meter(model, 1, fused=True)
    batch = padded_batch(random_rows(random.Random(0), 3, 1, 4), "right")
    model(**batch, fused_lm_head=True)
    scored = int((batch["labels"][:, 1:] != -100).sum())
    n = batch["input_ids"].numel()
    assert gauge.counts == measure.Counts(n, n, scored, scored)
    with torch.no_grad():
        model(input_ids=batch["input_ids"])
    assert gauge.counts == measure.Counts(2 * n, n, scored + n, scored)
    # 3 layers of q 32x32, k and v 32x16, o 32x32, three 32x48 of the MLP, two norms; a norm at the end
    frozen = 3 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 2 * 32) + 32
    lora = 3 * 4 * ((32 + 32) + 2 * (32 + 16) + (32 + 32))
    assert measure.sizes(model) == {"n": frozen, "lora": lora, "head": 97 * 32}


def planted_run(seconds, positions, rate, peak):
    return {
        "unit_seconds": seconds,
        "unit_positions": positions,
        "flops_per_s": rate,
        "n_prompts": 2,
        "peak_bytes": peak,
    }


def test_the_table_of_planted_results():
    results = {
        **PLACE,
        "settings": {"repeats": 2, "threads": 2, "max_new_tokens": 24},
        "peak": {"flops_per_s": 2e12, "dtype": "torch.bfloat16", "runs": []},
        "items": {
            "sft": {
                "ours": [planted_run([1.0, 2.0], [1000], [1e12], 2e9), planted_run([3.0], [1000], [1e12], 2e9)],
                "trl": [planted_run([12.0], [2000], [5e11], 4e9), planted_run([30.0], [2000], [5e11], 4e9)],
            }
        },
        "experiment": [
            {
                "wall_s": 600.0,
                "share_outside_steps": 0.08,
                "jobs": [{"peak_bytes": 2.5e9}, {"peak_bytes": 1e9}],
                "git": {"commit": 40 * "e"},  # measured later than the rest
            }
        ],
        "profile": {"matrix products": 0.75, "rest": 0.25},
    }
    row = next(line for line in bench.table(results).splitlines() if line.startswith("| SFT"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "SFT, a step of 16 rows",
        "s a step",
        "2.00 (1.00–3.00)",
        "21.0 (12.0–30.0)",
        "**9.00 (8.00–10.0)**",  # turn by turn: 12 / 1.5 and 30 / 3
        "1,000 / 2,000",
        "1.00 (50%) / 0.50 (25%)",
        "2.00 / 4.00",
    ]
    text = bench.table(results)
    assert "| 10.0 (10.0–10.0) | | | | | 2.50 |" in text
    assert "matrix products 75%" in text and "2030-01-02" in text and "at commit `eeeeeeeeeeee`" in text


def test_figures_have_three_digits_and_no_exponent():
    shown = {0.05102: "0.0510", 1.0: "1.00", 119.6: "120", 999.6: "1,000", 1472.07: "1,470", 123_456: "123,000"}
    assert [measure.three_digits(value) for value in shown] == [*shown.values()]


def test_growth_says_what_it_skipped_and_draws_the_rest():
    part = [
        {"size": 1000, "seconds": {"write_s": 0.5}, "peak_bytes": 2 * 10**8},
        {"size": 10**4, "skipped": "a reason"},
    ]
    results = {**PLACE, "settings": {"most": None, "budget": 60.0}, "parts": {"dataset": part}}
    text = growth.table(results)
    assert "| 1,000 | 0.500 | 0.20 |" in text and "| 10,000 | a reason |" in text
    assert growth.chart(results).to_dict()["vconcat"]


def test_every_part_that_grows_can_be_measured():
    assert all(callable(getattr(growth, f"grow_{part}")) for part in growth.PARTS)


def test_summarize_reads_the_made_up_predictions(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    growth.plant_predictions(400, tmp_path)
    assert growth.grow_summarize(400, tmp_path)["summarize_s"] > 0


@pytest.fixture
def own_threads():
    """Whatever number of threads a test sets, the others keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("own_threads")
def test_the_gpu_script_ends_well_at_a_toy_shape(manifest, tmp_path, monkeypatch):
    """Each side in this process, not in one of its own: libraries are loaded once."""

    def here(script, *arguments):
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            gpu.main([str(argument) for argument in arguments])
        return json.loads(printed.getvalue().splitlines()[-1])

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(measure, "in_child", here)
    monkeypatch.setattr(bench, "inputs", lambda configfiles: ({"ruleset": "rulesets/fincorp.yaml"}, manifest))
    output = tmp_path / "gpu.json"
    options = ["--shape", "toy", "--updates", "1", "--most", "2", "--checkpointing", "no", "--output", str(output)]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        gpu.main(options)
    results = json.loads(output.read_text())
    assert {"date", "git", "hardware", "versions", "shape", "config", "updates", "formula", "peak"} < results.keys()
    assert [(row["method"], row["side"]) for row in results["rows"]] == [
        (method, side) for method, sides in gpu.SIDES.items() for side in sides
    ]
    for row in results["rows"]:
        assert row.keys() == ROW_FIELDS and row["fits"]
        assert all(len(row[name]) == 1 and row[name][0] > 0 for name in ("seconds", "positions", "tokens", "flops"))
        assert row["peak_bytes"] > 0 and (row["largest_micro_batch"], row["ended_by"]) == (2, "limit")
    lines = [line for line in printed.getvalue().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(results["rows"])


@pytest.mark.slow
def test_our_computation_is_as_near_to_the_truth_as_the_plain_one(tiny_jobs):
    """Of the tiny model; on a GPU the same program compares the embedded one."""
    from exactness import compare_computations

    found = compare_computations(tiny_jobs.make("exactness", {}), 4)
    ours, plain = found["bfloat16_ours_truth"], found["bfloat16_plain_truth"]
    assert found["float32_ours_truth"]["log_probs"] < 1e-5
    assert found["float32_ours_truth"]["gradients_largest"] < 1e-3
    assert 0 < ours["gradients_median"] < 2 * plain["gradients_median"]


def test_a_copy_of_the_tree_runs_with_its_own_package(tmp_path):
    """The Snakefile refuses to run with the package of another folder, which the virtual environment's is."""
    bench.copy_tree(tmp_path)
    done = bench.run_copy(tmp_path, "--dry-run", "--cores", "2", "--resources", "gpu=1")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "train" in done.stdout
