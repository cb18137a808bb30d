"""What an hour of the machine costs: a number above 0, or nothing."""

import pytest

from hidden_rule.core.errors import UserError
from hidden_rule.core.paths import ROOT
from hidden_rule.experiment.config import load_config


def config_with(tmp_path, value: str) -> dict:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(f"experiment: priced\nprice_per_hour: {value}\n", encoding="utf-8")
    return load_config([ROOT / "config.yaml", overlay])


def test_a_price_is_kept_and_none_is_none(tmp_path):
    assert config_with(tmp_path, "2.5")["price_per_hour"] == 2.5
    assert "price_per_hour" not in load_config([ROOT / "config.yaml"])


@pytest.mark.parametrize("value", ["0", "-1", "free", ".inf", ".nan", "true", "[2]", "2,50 EUR"])
def test_no_other_price_is_taken(tmp_path, value):
    with pytest.raises(UserError, match=r"price_per_hour"):
        config_with(tmp_path, value)
