"""Make the pipeline's package and scripts importable, as Snakemake does."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "workflow" / "scripts"))
