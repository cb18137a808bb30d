"""Rules that were found, in lines for a log, and as the YAML that makes them hidden rules of a ruleset."""

import json

import polars as pl

HEAD = "rules: # before those that are stated: the first rule that holds decides"


def proposed_rules(found: pl.DataFrame) -> pl.DataFrame:
    """The rows of table RULES of proposed rules for a single label, in their order."""
    return found.filter(pl.col("name").is_not_null(), kind="rule", verdict="proposed")


def as_yaml(found: pl.DataFrame) -> str:
    """The proposed rules of table RULES as a ruleset takes them; empty without one."""
    lines = []
    for rule in proposed_rules(found).to_dicts():
        about = {key: json.dumps(rule[key], ensure_ascii=False) for key in ("label", "when", "says")}
        lines += [f"  - name: {rule['name']}", f"    label: {about['label']}", "    hidden: true"]
        lines += [f"    when: {about['when']}", f"    says: {about['says']}"]
    return "\n".join([HEAD, *lines]) if lines else ""


def report_lines(found: pl.DataFrame) -> list[str]:
    """What a search found, a line a candidate, and the YAML to paste."""
    whole, rest = (found.filter(kind=kind).row(0, named=True) for kind in ("all", "rest"))
    lines = [
        f"{whole['n_found_on']:,} cases searched for rules, {whole['n']:,} others to measure them on: of these "
        f"{whole['n_departures']:,} are decided otherwise than stated"
    ]
    lines += [candidate_line(candidate) for candidate in found.filter(kind="rule").to_dicts()]
    if yaml := as_yaml(found):
        lines.append(
            f"{rest['n_departures']:,} of {rest['n']:,} cases that no proposed rule covers are decided otherwise"
        )
        lines += ["to make them hidden rules, put this into the ruleset:", *yaml.splitlines()]
    else:
        lines.append("no rule is proposed")
    return lines


def candidate_line(of: dict) -> str:
    """A candidate with its evidence, on one line."""
    shown = f"{of['verdict']}: {of['when']} -> {of['label'] if of['single_label'] else 'several labels'}"
    evidence = [f"{of['n']:,} cases that it was not found on"]
    if of["precision"] is not None:
        evidence.append(f"precision {percent_of(of['precision'], of['ci_low'], of['ci_high'])}")
    if of["lift"] is not None:
        evidence.append(f"lift {of['lift']:.1f} ({of['lift_low']:.1f} to {of['lift_high']:.1f})")
    evidence.append(f"as good in {of['n_as_good']} of {of['n_shuffles']} searches with shuffled labels")
    if not of["single_label"]:
        evidence.append(f"decisions depart to {', '.join(of['departures_to'])}")
    return f"{shown}; {', '.join(evidence)}"


def percent_of(share: float, low: float, high: float) -> str:
    return f"{100 * share:.1f}% ({100 * low:.1f} to {100 * high:.1f})"
