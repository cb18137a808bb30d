"""What a command that asks a model does first: no network, a GPU of its own where there is one, libraries, silence."""

import warnings

from hidden_rule.core.offline import restrict_network


def start_models() -> None:
    """To be called before anything imports torch."""
    from hidden_rule.models.devices import lease_devices, visible_devices
    from hidden_rule.models.startup import load_libraries

    restrict_network()
    lease_devices(min(1, len(visible_devices())))
    warnings.simplefilter("ignore", FutureWarning)  # of libraries, about their own code
    load_libraries()
    from transformers.utils import logging

    logging.disable_progress_bar()
