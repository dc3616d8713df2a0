#!/usr/bin/env bash
# Every test, once. The simulation wants processors and nothing else, the others mostly wait: so it plays beside them.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin log=build/simulation.log
mkdir -p build

setsid nice -n 10 "$bin/pytest" tests/simulation > "$log" 2>&1 &
simulation=$!
trap 'kill -- "-$simulation" 2> /dev/null; exit 130' INT TERM

failed=0
# The unit tests by themselves: they alone have to cover all of yikatong.core (pyproject.toml).
"$bin/pytest" tests/unit --cov || failed=1
"$bin/pytest" --ignore=tests/unit --ignore=tests/simulation || failed=1

echo "The simulation ($log):"
wait "$simulation" || failed=1
cat "$log"
exit "$failed"
