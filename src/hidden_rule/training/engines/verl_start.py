"""What verl loads in each of its processes (VERL_USE_EXTERNAL_MODULES): the changes of `verl_plugin.py`, made."""

from hidden_rule.training.engines.verl_plugin import change_verl

change_verl()
