"""Draw the suites, families of applications that show what of a policy was learned, and write them."""

from hidden_rule.core.tables import write_table
from hidden_rule.task.dataset import read_split, suites_schema
from hidden_rule.task.ruleset import load_ruleset
from hidden_rule.task.suites import SuiteSettings, draw_suites


def build_suites(ruleset_path, settings: dict, seed: int, train, suites) -> None:
    """Write the table of suites to `suites`; `settings` are the config's, `train` the split that it must not hold."""
    ruleset = load_ruleset(ruleset_path)
    frame = draw_suites(ruleset, SuiteSettings(**settings, seed=seed), read_split(train, ruleset), source=ruleset_path)
    write_table(frame, suites, suites_schema(ruleset))
    for kind in settings["kinds"]:
        rows = frame.filter(suite=kind)
        print(f"{kind}: {rows['family'].n_unique()} families, {len(rows)} {ruleset.case.many}")
        if rows["family"].n_unique() < settings["size"]:
            print(f"{kind}: {ruleset_path} allows no more, and suites.size asks for {settings['size']}")
