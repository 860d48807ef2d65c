#!/usr/bin/env bash
# What a GPU has to say about the CUDA path, within ten minutes: build from source, tests, compute-sanitizer on a few of
# them, benchmarks. Everything goes into a folder; the exit status is 1 if anything failed.
#
#   tests/cuda/run_all.sh [FOLDER]      default: cuda-results
#
# For a machine with an NVIDIA GPU, nvcc, a C++17 compiler, and a Python (PYTHON=..., default python3) that has torch with
# CUDA. What else is needed goes into a temporary folder. pip needs an index, or PIP_NO_INDEX=1 and
# PIP_FIND_LINKS=<folder of wheels> with scikit-build-core, pybind11, cmake, ninja, pytest, hypothesis and rich.
# FASTRNN_CUDA_ARCHITECTURES=native compiles for the GPU at hand alone.
set -uo pipefail
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)
results=${1:-cuda-results}
mkdir -p "$results"
results=$(cd "$results" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$root" || exit 1
failed=()

part() { # name, seconds that it may take, command ...: its output goes to FOLDER/name.log
  local name=$1 limit=$2 left=$((590 - SECONDS))
  shift 2
  limit=$((limit < left ? limit : left))
  printf '%4d s  %s\n' "$SECONDS" "$name"
  if ! timeout "$limit" "$@" >"$results/$name.log" 2>&1; then
    failed+=("$name")
    tail -n 20 "$results/$name.log"
    return 1
  fi
}

sanitized() { # tool: a few tests of every kind of kernel; the emulation needs none
  part "sanitizer-$1" 90 compute-sanitizer --tool "$1" --error-exitcode 1 --target-processes all \
    "$python" -m pytest -p no:cacheprovider -q -x tests/cuda/test_parity.py tests/cuda/test_sequences.py \
    -k "not emulation and (stacked or precision and (24 or 40)) and not batch"
}

nvidia-smi >"$results/gpu.txt" 2>&1
nvcc --version >>"$results/gpu.txt" 2>&1

export PYTHONPATH="$scratch/site" CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) FASTRNN_CUDA=ON
needed=(scikit-build-core pybind11 cmake ninja pytest hypothesis rich)
"$python" -c 'import torch; print("torch", torch.__version__, torch.version.cuda)' >>"$results/gpu.txt" || exit 1
"$python" -c 'import numpy' 2>/dev/null || needed+=(numpy)
part packages 120 "$python" -m pip install --target "$scratch/site" "${needed[@]}" || exit 1
part build 240 "$python" -m pip install --target "$scratch/site" --no-build-isolation --no-deps . || exit 1
"$python" -m fastrnn info --json >"$results/info.json"
cat "$results/info.json" >>"$results/gpu.txt"

part tests 240 "$python" -m pytest -p no:cacheprovider -q -k "not emulation" tests/cuda --junitxml "$results/tests.xml"
if command -v compute-sanitizer >/dev/null; then
  for tool in memcheck racecheck; do
    sanitized "$tool"
  done
else
  failed+=("sanitizer (compute-sanitizer is not installed)")
fi
part benchmarks 240 "$python" -m benchmarks --device cuda --grid cudnn-quick --quick --json "$results/benchmarks.json"

printf '%4d s  done; results in %s\n' "$SECONDS" "$results"
if ((${#failed[@]})); then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
