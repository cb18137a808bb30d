"""The answer of made-up worlds of which the truth is known: what the report then says, and what it must not say.

Predictions, histories and costs are planted; metrics, comparisons, costs and verdicts are those of the pipeline's own
scripts. Swap the numbers of two conditions, and the conclusion swaps.
"""

import re

import pytest

from worlds import WORLDS, answer_of

SURE, PRICE, POLICY, HIDDEN = "Significance", "Training cost", "Policy", "Hidden rule"
COLLAPSE_PART, CHANGE = "Collapse", "What could change the result"
EXPECTED = {  # world: [(where, what stands there)], [what stands nowhere]
    "sft wins": (
        [
            ("headline", "SFT has the highest accuracy, "),
            ("headline", ", significantly above all others. The hidden rule was learned by SFT."),
            (SURE, "SFT outperforms GRPO by "),
            (SURE, "SFT outperforms Untrained by "),
            (SURE, "exact McNemar test (one training seed); Holm correction for 2 comparisons"),
            (
                PRICE,
                "SFT: 9 min 00 s of training per seed on an idle machine (wall time 10 min 00 s; 400,000 training ",
            ),
            (PRICE, "All conditions compared with SFT are significantly less accurate, whatever their cost."),
            (POLICY, "Untrained is not significantly different from chance (25.0%)"),
            (POLICY, "SFT learned the policy: "),
            (POLICY, "GRPO learned part of the policy: "),
            (HIDDEN, "SFT learned the hidden rule: "),
            (HIDDEN, "GRPO did not learn the hidden rule: "),
            (COLLAPSE_PART, "GRPO (seed 0) did not collapse: all 4 decisions are still sampled at the end"),
            (CHANGE, "More training seeds: with a single seed"),
        ],
        ["statistically tied", "collapsed", "Detecting the observed", "more accurate", "GRPO outperforms SFT"],
    ),
    "rl wins": (
        [
            ("headline", "GRPO has the highest accuracy, "),
            ("headline", ", significantly above SFT; no planned comparison with Untrained. The hidden rule was "),
            ("headline", "learned by GRPO."),
            (SURE, "GRPO outperforms SFT by "),
            (SURE, "SFT outperforms Untrained by "),
            (
                PRICE,
                "GRPO: 9 min 00 s of training per seed on an idle machine (wall time 10 min 00 s; 400,000 training ",
            ),
            (HIDDEN, "SFT did not learn the hidden rule: "),
            (COLLAPSE_PART, "GRPO (seed 0) did not collapse"),
        ],
        ["collapsed", "SFT outperforms GRPO", "SFT learned the policy", "statistically tied"],
    ),
    "tie": (
        [
            ("headline", " has the highest accuracy, "),
            ("headline", " is statistically tied."),
            ("headline", "The hidden rule was learned by SFT and SFT → GRPO."),
            (SURE, " are statistically tied: "),
            (PRICE, "of training per seed"),
            (CHANGE, "SFT → GRPO"),
        ],
        ["SFT outperforms SFT → GRPO", "GRPO outperforms SFT ", "above all others", "less accurate"],
    ),
    "all fail": (
        [
            ("headline", "No condition is significantly better than chance (25.0%)."),
            (POLICY, "SFT is not significantly different from chance (25.0%)"),
        ],
        ["learned the policy", "learned part", "outperforms", "takes", "highest", "Nothing measured", "Detecting"],
    ),
    "too few data": (
        [
            ("headline", "statistically tied"),
            ("headline", "No condition demonstrably learned the hidden rule."),
            (SURE, "Minimum detectable difference: "),
            (PRICE, "Nothing as accurate trains faster."),
            (CHANGE, "this experiment has 40."),
            ("scope", "over 40 applications"),
        ],
        ["outperforms", "above all", "learned the policy", "SFT learned the hidden", "less accurate", "may decide"],
    ),
    "collapse": (
        [
            ("headline", "SFT has the highest accuracy, "),
            (COLLAPSE_PART, "GRPO (seed 0) collapsed to 2 of 4 decisions ("),
            (COLLAPSE_PART, "In its last steps, 9"),  # 90 to 99%
            (COLLAPSE_PART, "GRPO (seed 0) never answers LABEL_A and LABEL_C in evaluation"),
            (SURE, "SFT outperforms GRPO by "),
        ],
        ["did not collapse", "GRPO learned the policy", "GRPO learned the hidden rule", "still improving"],
    ),
    "collapse of three seeds": (
        [
            ("headline", "SFT has the highest accuracy, "),
            (SURE, "t-test over applications and 3 training seeds; Holm correction for 2 comparisons"),
            (COLLAPSE_PART, "GRPO (seed 0) collapsed to 2 of 4"),
            (COLLAPSE_PART, "GRPO (seed 2) collapsed to 2 of 4"),
            ("Method and threats to validity", "640 applications, shared by all 3 training seeds"),
        ],
        ["did not collapse", "one seed", "One training seed", "More training seeds"],
    ),
}


@pytest.mark.parametrize("world", WORLDS)
def test_what_the_report_says_of_a_world(tmp_path, world):
    conditions, options = WORLDS[world]
    headline, said = answer_of(tmp_path, conditions, **options)
    said["headline"] = headline
    present, absent = EXPECTED[world]
    for where, words in present:
        assert words in said[where], (where, words, said[where])
    everything = " ".join(said.values())
    for words in absent:
        assert words not in everything, (words, everything)


def sentences(text: str) -> list[str]:
    return sorted(re.split(r"(?<=\.) ", text))


@pytest.mark.parametrize("world", ["sft wins", "collapse"])
def test_swapped_numbers_swap_the_conclusion(tmp_path, world):
    conditions, options = WORLDS[world]
    (tmp_path / "swapped").mkdir()
    first, said = answer_of(tmp_path, conditions, **options)
    sft, grpo = conditions["sft"] | {"method": "sft"}, conditions["grpo"] | {"method": "grpo"}
    swapped = options | {"config": {"comparisons": {"against": "grpo"}}}
    second, said_swapped = answer_of(tmp_path / "swapped", conditions | {"sft": grpo, "grpo": sft}, **swapped)

    def exchanged(text):
        """Names that no longer say the method are shown as they are: the GRPO that is called sft is sft."""
        return text.replace("SFT", "?").replace("GRPO", "sft").replace("?", "grpo")

    assert exchanged(first) == second != first
    for part in (SURE, PRICE, POLICY, HIDDEN, COLLAPSE_PART, CHANGE):
        assert sentences(exchanged(said[part])) == sentences(said_swapped[part]), part
