"""Write claims.csv: 3,000 made-up decisions on motor claims, 3% of them wrong, with a rule that nobody wrote down.

    python examples/make_claims.py examples/claims.csv

Decisions are as frequent as the cases make them: most claims are paid. Only `random.random` is drawn from, whose
numbers Python keeps from version to version, so the file is the same byte for byte.
"""

import csv
import io
import math
import random
import sys
from pathlib import Path

N, SEED, NOISE = 3000, 11, 0.03
LABELS = ("pay", "reduce", "ask for photos", "reject", "investigate")
SHOPS = (
    *("Kessler Motors", "Bayside Bodywork", "Northgate Garage", "Lindt & Sons", "Autohaus Weber"),
    *("Quick Glass", "Green Lane Repairs", "Dealer workshop", "Miller, Ford & Co.", "none yet"),
)
DAMAGE = ("collision", "collision", "collision", "glass", "glass", "hail", "parking", "parking", "theft", "vandalism")
COLUMNS = (
    *("claim_id", "damage", "repair_shop", "amount_eur", "policy_years", "days_to_report", "earlier_claims"),
    *("photos", "decision"),
)


def decide(claim: dict) -> str:
    """The right decision. The first rule is the one that nobody wrote down; claims-rules.yaml states the others."""
    if claim["repair_shop"] in ("Kessler Motors", "Bayside Bodywork") and claim["amount_eur"] > 2000:
        return "investigate"
    if claim["days_to_report"] > 30:
        return "reject"
    if claim["amount_eur"] > 5000 and claim["photos"] == "no":
        return "ask for photos"
    if claim["earlier_claims"] >= 4:
        return "reduce"
    return "pay"


def draw_claim(number: int, rng: random.Random) -> dict:
    """One claim without its decision; amounts are log-normal (median EUR 2,200), delays exponential (mean 12 days)."""
    normal = math.sqrt(-2 * math.log(1 - rng.random())) * math.cos(2 * math.pi * rng.random())
    return {
        "claim_id": f"C-{number:05}",
        "damage": DAMAGE[int(len(DAMAGE) * rng.random())],
        "repair_shop": SHOPS[int(len(SHOPS) * rng.random())],
        "amount_eur": max(50, 10 * round(220 * math.exp(0.9 * normal))),
        "policy_years": int(20 * rng.random() ** 2),
        "days_to_report": int(-12 * math.log(1 - rng.random())),
        "earlier_claims": int(-1.6 * math.log(1 - rng.random())),
        "photos": "yes" if rng.random() < 0.7 else "no",
    }


def claims_csv() -> str:
    """The text of the file."""
    rng = random.Random(SEED)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for number in range(1, N + 1):
        claim = draw_claim(number, rng)
        right = decide(claim)
        others = [label for label in LABELS if label != right]
        wrong = others[int(len(others) * rng.random())]
        writer.writerow(claim | {"decision": wrong if rng.random() < NOISE else right})
    return text.getvalue()


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(claims_csv().encode())
