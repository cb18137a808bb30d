#!/bin/sh
# The environment of `engine: openrlhf` in the folder $1, of the requirements $2. Not with pip alone, since flash-attn is
# built with the torch that is installed already. And without a GPU (openrlhf.txt)
# - OpenRLHF asks for packages that are for GPUs alone (ring attention, kernels): it is installed without them;
# - of flash-attn its Python files are used, not its kernels: they are not compiled;
# - builds of torchvision, torchaudio, torchcodec and triton that vLLM asks for are for another torch: nothing here uses
#   them, and what merely finds them fails. The lock names all else, and nothing is installed that it does not name.
set -eu
lock=$2
folder=$(cd "$1" && pwd)
install() { "$folder/bin/python" -m pip install --disable-pip-version-check --quiet "$@"; }
pin() { grep "^$1==" "$lock"; }

if [ "$(basename "$lock")" != openrlhf.txt ]; then
  install packaging ninja wheel setuptools vllm==0.29.0
  install --no-build-isolation -r "$lock"
  exit
fi
grep -Ev '^(deepspeed|flash-attn|openrlhf)==' "$lock" > "$folder/requirements.txt"
install --no-deps -r "$folder/requirements.txt"
install --no-deps --use-pep517 "$(pin deepspeed)"
FLASH_ATTENTION_FORCE_BUILD=TRUE FLASH_ATTENTION_SKIP_CUDA_BUILD=TRUE \
  install --no-deps --no-build-isolation "$(pin flash-attn)"
install --no-deps "$(pin openrlhf)"
