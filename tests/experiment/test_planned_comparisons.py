"""Which pairs of conditions a config compares, and what it may not ask for."""

import pytest

from bad_inputs import breakable, the_line  # noqa: F401 - a fixture
from hidden_rule.experiment.config import load_config, read_experiment
from hidden_rule.experiment.planned_comparisons import planned_pairs, reference_point

pytestmark = pytest.mark.usefixtures("breakable")

ONE_SWEEP = "conditions: {rate: {method: sft, sweep: {epochs: [1, 2]}}}\n"


def written(name: str, text: str) -> str:
    """A file beside config.yaml."""
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return name


def files(*texts: str) -> list[str]:
    """config.yaml and overlays over it."""
    return ["config.yaml", *(written(f"overlay{i or ''}.yaml", text) for i, text in enumerate(texts))]


AGAINST_SFT = [
    (name, "sft") for name in ("baseline", "boosting", "constant", "grpo", "logistic", "sft_then_grpo")
]  # fmt: skip


@pytest.mark.parametrize(
    ("overlay", "pairs"),
    [
        ("seeds: [0]", AGAINST_SFT),
        ("comparisons: {pairs: [[sft, grpo], [grpo, baseline]]}", [("sft", "grpo"), ("grpo", "baseline")]),
        ("comparisons: [[sft, grpo]]", [("sft", "grpo")]),
        (f"{ONE_SWEEP}comparisons: [[rate_2, rate_1]]", [("rate_2", "rate_1")]),
        (f"{ONE_SWEEP}comparisons: {{against: rate_1}}", None),
    ],
)
def test_what_is_compared(overlay, pairs):
    planned = planned_pairs(load_config(files(overlay)))
    assert planned == pairs if pairs else {second for _, second in planned} == {"rate_1"} and len(planned) == 8


@pytest.mark.parametrize(
    ("overlays", "plan"),
    [
        (["comparisons: [[sft, grpo]]", "comparisons: {against: grpo}"], {"against": "grpo"}),
        (["comparisons: {pairs: [[sft, grpo]]}", "comparisons: {against: grpo}"], {"against": "grpo"}),
        (["comparisons: {against: grpo}", "comparisons: {pairs: [[sft, grpo]]}"], {"pairs": [["sft", "grpo"]]}),
    ],
)
def test_the_later_of_two_plans_counts(overlays, plan):
    assert load_config(files(*overlays))["comparisons"] == plan


def test_a_plan_on_the_command_line_counts():
    assert load_config(["config.yaml"], ["comparisons={against: grpo}"])["comparisons"] == {"against": "grpo"}
    words = ["comparisons=[[sft, grpo]]"]
    assert load_config(["config.yaml"], words)["comparisons"] == {"pairs": [["sft", "grpo"]]}


@pytest.mark.parametrize("gone", ["sft: false", "sft: {sweep: {epochs: [1, 2]}}"])
def test_a_later_file_may_leave_out_what_an_earlier_one_compares_with(gone):
    experiment = read_experiment(files(f"conditions: {{{gone}, sft_then_grpo: false}}"))
    assert experiment.config["comparisons"] == {"against": "boosting"}
    assert experiment.cautions == [
        "comparisons.against is sft, which a later file leaves out: each condition is compared with boosting instead"
    ]


KINDS = {
    "boosting": {"reference": "boosting"}, "logistic": {"reference": "logistic"}, "shots": {"prompt": {"examples": 8}},
    "untrained": {}, "always": {"reference": "constant"}, "b_sft": {"method": "sft"}, "a_sft": {"method": "sft"},
}  # fmt: skip


def test_the_reference_point_is_the_strongest_reference_by_its_kind():
    left = dict(KINDS)
    for expected in ("boosting", "logistic", "shots", "untrained", "always", "a_sft"):
        assert reference_point(dict(reversed(left.items()))) == expected
        assert planned_pairs({"conditions": left}) == [(name, expected) for name in sorted(left) if name != expected]
        del left[expected]
    assert planned_pairs({"conditions": {"alone": {}}}) == []


LEFT_OUT = "conditions: {grpo: false}"
FAULTS = [
    (
        ["comparisons: {against: gpro}"],
        "overlay.yaml: comparisons.against: unknown condition 'gpro'; did you mean grpo?",
    ),
    (
        ["comparisons: {pairs: [[sft, grpo], [sft, gpro]]}"],
        "overlay.yaml: comparisons.pairs[1][1]: unknown condition 'gpro'; did you mean grpo?",
    ),
    (
        ["comparisons: [[sft, gpro]]"],
        "overlay.yaml: comparisons[0][1]: unknown condition 'gpro'; did you mean grpo?",
    ),
    (
        ["comparisons: {pairs: [[sft, sft]]}"],
        "overlay.yaml: comparisons.pairs[0]: compares sft with itself; name two conditions",
    ),
    (
        ["comparisons: {pairs: [[sft, grpo], [grpo, sft]]}"],
        "overlay.yaml: comparisons.pairs[1]: grpo and sft are compared twice; keep one of [sft, grpo] and [grpo, sft]",
    ),
    (["comparisons: {pairs: []}"], "overlay.yaml: comparisons.pairs: is empty; add more"),
    (
        ["comparisons: {pairs: [sft, grpo]}"],
        "overlay.yaml: comparisons.pairs[0]: must be a list, is 'sft'; give a list",
    ),
    (["comparisons: [[sft]]"], "overlay.yaml: comparisons[0]: has only 1 of at least 2; add more"),
    (["comparisons: {agianst: sft}"], "overlay.yaml: comparisons.agianst: unknown key; did you mean against?"),
    (
        ["comparisons: {against: grpo, pairs: [[sft, grpo]]}"],
        "overlay.yaml: comparisons.pairs: stands beside against; keep one of the two",
    ),
    (
        [f"{ONE_SWEEP}comparisons: {{against: rate}}"],
        "overlay.yaml: comparisons.against: unknown condition 'rate'; did you mean rate_2?",
    ),
    # what the same file leaves out, an earlier one, and a later one
    (
        ["conditions: {grpo: false, sft_then_grpo: false}\ncomparisons: {against: grpo}"],
        "overlay.yaml: comparisons.against: grpo is left out; known: baseline, boosting, constant, logistic, sft",
    ),
    (
        [LEFT_OUT, "comparisons: [[grpo, sft]]"],
        "overlay1.yaml: comparisons[0][0]: grpo is left out; known: baseline, boosting, constant, logistic, sft, "
        "sft_then_grpo",
    ),
    (
        ["comparisons: {pairs: [[grpo, sft]]}", LEFT_OUT],
        "overlay1.yaml: conditions.grpo: conflicts with comparisons.pairs[0][0]: grpo is left out; for "
        "comparisons.pairs[0][0], known: baseline, boosting, constant, logistic, sft, sft_then_grpo",
    ),
]


@pytest.mark.parametrize(("overlays", "line"), FAULTS, ids=range(len(FAULTS)))
def test_what_cannot_be_compared_is_one_line(overlays, line):
    assert the_line(load_config, files(*overlays)) == line
