#!/usr/bin/env bash
# The image's install steps, here and not in the Dockerfile, so that they also run where no container engine does:
#   PREFIX=/tmp/image VARIANT=cpu cluster/install.sh packages code
# system    Debian's packages, the user, the folders: as root, in the image only
# packages  a venv of what tagfleet needs to run, every file checked against a hash of constraints.txt
# code      tagfleet and its jobs, beside that venv; needs no network
set -euo pipefail
umask 022 # what is made here is read by another user

PREFIX=${PREFIX:-/opt/tagfleet}
VARIANT=${VARIANT:-cpu}
PYTHON=${PYTHON:-python3}
BYTECODE=${BYTECODE:-1} # 0 spares a test the minute of compiling
EXTRAS=(tune mlflow k8s)
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
LOCK=$SOURCE/cluster/constraints.txt

# torchaudio needs the CUDA build of torch, and then the loader wants most of CUDA: no `import torch` without it.
# This is what it does not want, device or none. The CPU variant has neither the packages ...
NOT_ON_CPU=(triton nvidia-cusolver nvidia-nvtx cuda-bindings cuda-pathfinder)
# ... nor the files that are opened only when there is a device.
NOT_ON_CPU_FILES=('nvidia/cudnn/lib/libcudnn_*.so*' 'nvidia/cu13/lib/libnvrtc*.alt.so*')

export UV_PYTHON_DOWNLOADS=never
# By hash, not by time: builders rewrite times, and then every process of a read-only container would compile again.
export PYC_INVALIDATION_MODE=UNCHECKED_HASH

fail() {
  echo "install.sh: $1" >&2
  exit 1
}

system() {
  apt-get update -qq
  apt-get install -qq -y --no-install-recommends 'tini=0.19.*' 'wget=1.21.*'
  rm -rf /var/lib/apt/lists/*
  test -s /etc/ssl/certs/ca-certificates.crt || fail "no CA certificates: Arrow's S3 client reads Debian's"
  groupadd --gid 1000 tagfleet
  useradd --uid 1000 --gid 1000 --create-home --home-dir /home/tagfleet --shell /bin/bash tagfleet
  install -d -o 1000 -g 1000 /spill
  install -d /etc/tagfleet
  # Debian's /etc/profile resets PATH, and KubeRay may start Ray from a login shell.
  echo "PATH=$PREFIX/.venv/bin:\$PATH" >/etc/profile.d/tagfleet.sh
}

# What installs is itself installed from the lock, into a folder that goes away again.
with_tools() {
  tools=$(mktemp -d)
  trap 'rm -rf "$tools"' EXIT
  local name
  for name in uv hatchling packaging pathspec pluggy trove-classifiers; do
    sed -n "/^$name==/,/[^\\\\]\$/p" "$LOCK"
  done >"$tools/tools.txt"
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target "$tools" \
    --no-deps --require-hashes -r "$tools/tools.txt"
  uv=$tools/bin/uv
}

packages() {
  mkdir -p "$PREFIX"
  # A constraint lends its hashes to what pyproject.toml asks for; what the lock does not know is refused.
  local wanted=(-r "$SOURCE/pyproject.toml" "${EXTRAS[@]/#/--extra=}" --constraint "$LOCK" --require-hashes
    --build-constraints "$LOCK" --require-build-hashes)
  if [ "$VARIANT" = cpu ]; then
    printf '%s\n' "${NOT_ON_CPU[@]}" >"$tools/excludes.txt"
    wanted+=(--excludes "$tools/excludes.txt")
  fi
  if [ "$BYTECODE" = 1 ]; then wanted+=(--compile-bytecode); fi
  "$uv" venv --quiet --clear --python "$(command -v "$PYTHON")" "$PREFIX/.venv"
  "$uv" pip install --quiet --python "$PREFIX/.venv" "${wanted[@]}"
  # tagfleet itself is a link to $PREFIX. Made here, since uv and pip would fetch for it what the lock does not know.
  cp "$SOURCE/pyproject.toml" "$SOURCE/README.md" "$PREFIX/"
  (cd "$PREFIX" && PYTHONPATH=$tools "$PYTHON" -S -c 'import hatchling.build as b; b.build_editable("'"$tools"'")')
  "$uv" pip install --quiet --python "$PREFIX/.venv" --no-deps "$tools"/tagfleet-*.whl
  # uv's cache keeps the modes of whoever filled it, and Ray does not start where it cannot read a package it imports.
  chmod -R go=rX "$PREFIX/.venv"
  if [ "$VARIANT" = cpu ]; then
    for files in "${NOT_ON_CPU_FILES[@]}"; do
      # shellcheck disable=SC2086 # the pattern is to be expanded
      rm "$PREFIX"/.venv/lib/python3.*/site-packages/$files # fails where a pattern has come to match nothing
    done
  fi
}

code() {
  local part
  for part in tagfleet jobs cluster; do
    rm -rf "${PREFIX:?}/$part"
    cp -R "$SOURCE/$part" "$PREFIX/$part"
    # Whatever the modes of the checkout were, the image's user reads it and writes nothing.
    chmod -R u=rwX,go=rX "$PREFIX/$part"
  done
  find "$PREFIX/tagfleet" "$PREFIX/jobs" -name __pycache__ -prune -exec rm -rf {} +
  if [ "$BYTECODE" = 1 ]; then
    "$PREFIX/.venv/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$PREFIX/tagfleet" "$PREFIX/jobs"
  fi
}

[ "$VARIANT" = cpu ] || [ "$VARIANT" = cuda ] || fail "VARIANT is '$VARIANT': say cpu or cuda"
[ $# -gt 0 ] || fail "say what to install: system, packages, code"
for step in "$@"; do
  case $step in
    system) system ;;
    packages)
      with_tools
      packages
      ;;
    code) code ;;
    *) fail "'$step' is no step: say system, packages or code" ;;
  esac
done
