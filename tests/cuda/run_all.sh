#!/usr/bin/env bash
# What a GPU has to say about the CUDA path, in less than three minutes, the most telling first: whether the kernels are
# right, how fast they are, the tests, compute-sanitizer, a profile. Every line is printed and saved at once, in at most
# eight files, so a run that is cut off has told what it knew. The exit status is 1 if anything was wrong.
#
#   tests/cuda/run_all.sh [--dry-run] [FOLDER]      default: cuda-results
#
# For a machine with an NVIDIA GPU and a Python (PYTHON=..., default python3) that has torch with CUDA. Where fastrnn with
# its CUDA module cannot be imported (SITE=<folder> says where it lies), it is built, by nvcc, for the GPU at hand, which
# takes two minutes more; what that needs is installed if it cannot be imported. --dry-run: on a machine without a GPU, on the CPU, without building.
set -uo pipefail
dry=
if [[ ${1:-} == --dry-run ]]; then dry=1 && shift; fi
python=${PYTHON:-python3}
device=cuda smoke_seconds=25 machine_seconds=10 end=175
[[ $dry ]] && device=cpu smoke_seconds=5 machine_seconds=60 # whoever tries it may have a busy machine
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "${1:-cuda-results}"
out=$(cd "${1:-cuda-results}" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$root" || exit 1
failed=()
export PYTHONUNBUFFERED=1 PYTHONPATH="${SITE:-$scratch/site}${PYTHONPATH:+:$PYTHONPATH}"
cuda="import torch; from fastrnn._engine.cuda import device; assert device.why_not(torch.device('cuda:0')) is None"

part() { # name, seconds that it may take, command ...: shows what it says and saves it in FOLDER/name.txt
  local name=$1 limit=$2 left=$((end - SECONDS))
  shift 2
  limit=$((limit < left ? limit : left))
  if ((limit < 1)); then failed+=("$name: no time is left") && return; fi
  printf '== %3d s  %s\n' "$SECONDS" "$name"
  timeout "$limit" "$@" 2>&1 | tee "$out/$name.txt" || failed+=("$name")
}

sanitized() { # tool: torch's pool of memory would hide where ours ends
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 timeout 65 compute-sanitizer --tool "$1" --kernel-name kns=run_step \
    --target-processes application-only --error-exitcode 3 \
    "$python" tests/cuda/first_light.py smoke --seconds 50 >"$out/6-$1.txt" 2>&1
}

machine() {
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.max.sm,memory.used --format=csv,noheader
  nvcc --version | tail -n 2
  "$python" -c 'import sys, torch; print("Python", sys.version.split()[0], "torch", torch.__version__, torch.version.cuda)'
}

install() { # modules: those that cannot be imported
  local module missing=()
  for module in "$@"; do
    "$python" -c "import $module" 2>/dev/null || missing+=("${module//_/-}")
  done
  if ((${#missing[@]})); then "$python" -m pip install -q --target "$scratch/site" "${missing[@]}"; fi
}

build() {
  install scikit_build_core pybind11 cmake ninja
  CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) FASTRNN_CUDA=ON \
    FASTRNN_CUDA_ARCHITECTURES=${FASTRNN_CUDA_ARCHITECTURES:-native} \
    "$python" -m pip install -q --target "$scratch/site" --no-build-isolation --no-deps .
  "$python" -c "$cuda"
}

tests() {
  local many=()
  install pytest hypothesis
  "$python" -c 'import xdist' 2>/dev/null && many=(-n 4)
  "$python" -m pytest -p no:cacheprovider -q "${many[@]}" --tb=line -rfE \
    -k "not emulation and not preten and not more_steps" tests/cuda
}

part 0-machine "$machine_seconds" bash -c "$(declare -f machine); python='$python' machine"
if [[ ! $dry ]] && ! "$python" -c "$cuda" 2>/dev/null; then
  end=$((end + 150))
  part 1-build 150 bash -c "$(declare -f install build); python='$python' scratch='$scratch' cuda=\"$cuda\" build"
  end=$((SECONDS + 165))
fi
part 2-smoke 30 "$python" tests/cuda/first_light.py smoke --seconds "$smoke_seconds" --device "$device"
wrong=$(grep -cE ' (WRONG$|FAILED )' "$out/2-smoke.txt")
((wrong)) && failed+=("2-smoke: $wrong cases")
if [[ $dry ]]; then
  echo "== no GPU: the rest is speed, tests, sanitizers, profile"
else
  part 3-speed 50 bash -c "'$python' tests/cuda/first_light.py speed --seconds 34
    echo 'launches that do not overlap:'
    FASTRNN_CUDA_OVERLAP=0 '$python' tests/cuda/first_light.py speed --seconds 10"
  sanitizers=()
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
      sanitized "$tool" &
      sanitizers+=("$!:$tool")
    done
  fi
  part 5-tests 65 bash -c "$(declare -f install tests); python='$python' scratch='$scratch' tests"
  for one in "${sanitizers[@]}"; do
    wait "${one%%:*}" || failed+=("6-${one#*:}")
    tail -n 4 "$out/6-${one#*:}.txt"
  done
  if command -v ncu >/dev/null; then
    part 7-profile 20 ncu --clock-control none -k regex:run_step -s 40 -c 4 --metrics \
      gpu__time_duration.sum,smsp__average_warps_issue_stalled_long_scoreboard_per_issue_active.ratio,lts__t_bytes.sum \
      "$python" tests/cuda/first_light.py speed --seconds 6
  fi
fi
printf '== %3d s  done; results in %s\n' "$SECONDS" "$out"
if ((${#failed[@]})); then
  printf 'FAILED: %s\n' "${failed[@]}"
  exit 1
fi
