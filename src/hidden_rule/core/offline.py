"""The environment of jobs: nothing is looked up on the Hub, and no library reports its use.

Libraries read these variables when they are imported, so they are set first. Trackers that the user asked for (wandb,
mlflow) look at other ones and keep their network.
"""

import os

SILENT = ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK")  # vLLM and mlflow follow the last one too
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def restrict_network(hub: bool = False) -> None:
    """Turn telemetry off in this process and those that it starts, and, unless it needs the Hub, lookups there too.

    With `hub`, lookups stay as the user's environment has them.
    """
    for name in (*SILENT, *(() if hub else OFFLINE)):
        os.environ[name] = "1"
