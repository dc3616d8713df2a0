#!/usr/bin/env bash
# Every test, once. The simulation wants processors and nothing else, the others mostly wait: so it plays beside them.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
mkdir -p build

play() { # NAME ARGUMENTS: in the background, in a process group of its own
    local name=$1
    shift
    setsid nice -n 10 "$bin/pytest" "$@" > "build/$name.log" 2>&1 &
    playing[$name]=$!
}
declare -A playing
trap 'for group in "${playing[@]}"; do kill -- "-$group" 2> /dev/null; done; exit 130' INT TERM

play faults tests/simulation/test_faults.py
play simulation tests/simulation --ignore=tests/simulation/test_faults.py

failed=0
# The unit tests by themselves: they alone have to cover all of yikatong.core (pyproject.toml).
"$bin/pytest" tests/unit --cov || failed=1
"$bin/pytest" --ignore=tests/unit --ignore=tests/simulation || failed=1

for name in simulation faults; do
    echo "build/$name.log:"
    wait "${playing[$name]}" || failed=1
    cat "build/$name.log"
done
exit "$failed"
