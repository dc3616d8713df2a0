#!/usr/bin/env bash
# Prepares this checkout: system packages, a virtual environment, locked dependencies. Run again it is quick.
#
#   deploy/setup.sh demo    what the demo needs
#   deploy/setup.sh         that, and what the tests need besides
#
# Without root it installs no system package; it says which command an administrator runs and goes on.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:-test}
packages=(
  python3 python3-venv python3-dev gcc pkg-config swig libpcsclite-dev  # pyscard has no binary wheel
  pcscd vsmartcard-vpcd                                                # the real PC/SC daemon, and a virtual reader
  util-linux                                                           # unshare: a PC/SC daemon of the demo's own
)
case $purpose in
  demo) without_zh='演示改用进程内的读卡器' without_en='the demo uses a reader in process' ;;
  test)
    without_zh='相应的测试会跳过' without_en='the tests that need them are skipped'
    packages+=(
      pcsc-tools opensc    # examiners of the simulated card
      debootstrap iproute2 # the system tests' throw-away Debian
      spin                 # the model checker of tests/simulation/model
      strace               # the syscall sweep of tests/crash
    ) ;;
  *) echo "setup: 用法 / usage: deploy/setup.sh [demo|test]" >&2; exit 2 ;;
esac
lock=deploy/lock

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  install="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
  if [ "$(id -u)" = 0 ]; then
    echo "setup: installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q >/dev/null
    apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
  else
    echo "setup: 缺少系统软件包 ${missing[*]}，请管理员运行：" >&2
    echo "setup: system packages are missing (${missing[*]}); an administrator runs:" >&2
    echo "    sudo sh -c '$install'" >&2
    echo "setup: 先不用它们，继续（$without_zh） / going on without them ($without_en)" >&2
  fi
fi

python=${PYTHON:-python3}
"$python" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || {
  echo "setup: 需要带 venv 的 Python 3.11 或更新版本 / Python 3.11 or newer with venv is needed (apt-get install python3-venv)" >&2
  exit 1
}

# pyscard is compiled. Where that can't be done yet, everything else is installed, and the demo uses a reader in process.
needed=$lock/development.txt
if ! { command -v swig && command -v gcc && pkg-config --exists libpcsclite; } >/dev/null 2>&1; then
  echo "setup: 暂不安装 PC/SC 支持 / going on without PC/SC (pyscard can't be compiled here yet)" >&2
  needed=$(mktemp)
  trap 'rm -f "$needed"' EXIT
  awk '/^[^ ]/ { skip = /^pyscard==/ } !skip' "$lock/development.txt" >"$needed"
fi

stamp=.venv/.setup
wanted=$(cat "$lock/build.txt" "$needed" pyproject.toml | sha256sum)
if [ "$(cat $stamp 2>/dev/null)" != "$wanted" ]; then
  echo "setup: virtual environment in .venv"
  rm -f $stamp
  [ -x .venv/bin/python ] || "$python" -m venv .venv
  pip() { .venv/bin/python -m pip install -q --disable-pip-version-check --root-user-action=ignore "$@"; }
  # --no-deps: the lock is whole. Left to look for what an entry needs, pip asks for the newest where that need has an
  # extra (coverage[toml]), and refuses it because it is not the one that is locked.
  pip --no-deps --require-hashes -r "$lock/build.txt"
  pip --no-deps --no-build-isolation --require-hashes -r "$needed"
  pip --no-build-isolation --no-deps -e .
  echo "$wanted" >$stamp
fi
