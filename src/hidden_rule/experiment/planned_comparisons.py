"""Planned comparisons: the pairs of conditions whose differences are tested, chosen before there are results.

They are the family that p-values are adjusted for (Holm). Either each condition against one of them (`against`), or
`pairs`; a config that names neither compares each condition with its reference point.
"""

from collections.abc import Sequence

from hidden_rule.core.schemas import did_you_mean
from hidden_rule.experiment.conditions import in_order
from hidden_rule.experiment.faults import ConfigFaultError
from hidden_rule.experiment.setting_files import Source, rank

SECTION = "comparisons"
CLASSIFIERS = ("boosting", "logistic")  # those that learn, the stronger first


def planned_pairs(config: dict) -> list[tuple[str, str]]:
    """The pairs of conditions that are compared, each in the order in which its difference is taken: first − second.

    config: as `check_config` returns it; one that is older than the section compares with the reference point.
    """
    plan = config.get(SECTION, {})
    if "pairs" in plan:
        return [(first, second) for first, second in plan["pairs"]]
    against = plan.get("against") or reference_point(config["conditions"])
    return [(name, against) for name in in_order(config["conditions"]) if name != against]


def reference_point(conditions: dict[str, dict]) -> str:
    """The condition that others are compared with where a config names none: the strongest reference, by its kind.

    Gradient boosting, logistic regression, a prompt that says more, the untrained model, the most frequent decision;
    without any of them the first condition. Of several of one kind the first by name.
    """

    def strength(name: str) -> int:
        condition = conditions[name]
        if (kind := condition.get("reference")) in CLASSIFIERS:
            return CLASSIFIERS.index(kind)
        kinds = ("prompt" in condition, not condition, kind is not None)
        return len(CLASSIFIERS) + (kinds.index(True) if True in kinds else len(kinds))

    return min(in_order(conditions), key=strength)


def resolved_plan(plan, conditions: dict[str, dict], dropped=()) -> dict:
    """The section as every config has it once it is checked: `against` or `pairs`; raises ConfigFaultError.

    plan: the section as written, None where it is not; dropped: conditions that the config leaves out.
    """
    listed, plan = isinstance(plan, list), {"pairs": plan} if isinstance(plan, list) else plan or {}
    if "pairs" in plan:
        if "against" in plan:
            beside = ((SECTION, "against"),)
            raise ConfigFaultError((SECTION, "pairs"), "stands beside against", "keep one of the two", beside, True)
        at = (SECTION,) if listed else (SECTION, "pairs")
        seen: dict[frozenset, list] = {}
        for i, pair in enumerate(plan["pairs"]):
            for j, name in enumerate(pair):
                _check_name(name, (*at, i, j), conditions, dropped)
            if pair[0] == pair[1]:
                raise ConfigFaultError((*at, i), f"compares {pair[0]} with itself", "name two conditions")
            if (twice := seen.setdefault(frozenset(pair), pair)) is not pair:
                fault = f"{' and '.join(pair)} are compared twice"
                raise ConfigFaultError((*at, i), fault, f"keep one of {as_text(twice)} and {as_text(pair)}")
        return {"pairs": plan["pairs"]}
    if "against" in plan:
        _check_name(plan["against"], (SECTION, "against"), conditions, dropped)
        return {"against": plan["against"]}
    return {"against": reference_point(conditions)}


def _check_name(name: str, at: tuple, conditions: dict, dropped) -> None:
    if name in conditions:
        return
    if name in dropped:
        fault = f"{name} is left out"
        raise ConfigFaultError(at, fault, did_you_mean("", conditions), (("conditions", name),))
    raise ConfigFaultError(at, f"unknown condition {name!r}", did_you_mean(name, conditions))


def as_text(pair: Sequence[str]) -> str:
    return f"[{', '.join(pair)}]"


def without_superseded(config: dict, sources: Sequence[Source]) -> tuple[dict, str | None]:
    """The merged config without what later files make void of its plan, and the condition that was named in vain.

    Of `against` in one file and `pairs` in another the later one counts. Where a later file leaves out the condition
    that `against` names, or sweeps it, the reference point takes its place: the earlier file did not know.
    """
    plan = config.get(SECTION)
    if not isinstance(plan, dict):
        return config, None
    places = {key: rank((SECTION, key), sources) for key in ("against", "pairs") if key in plan}
    if len(set(places.values())) == 2:
        earlier = min(places, key=lambda key: places[key])
        plan = {key: value for key, value in plan.items() if key != earlier}
    named, conditions = plan.get("against"), config.get("conditions")
    void = None
    if isinstance(named, str) and isinstance(conditions, dict) and named in conditions:
        spec = conditions[named]
        gone = spec is False or (isinstance(spec, dict) and "sweep" in spec)
        if gone and rank(("conditions", named), sources) > places["against"]:
            plan, void = {key: value for key, value in plan.items() if key != "against"}, named
    return config | {SECTION: plan}, void
