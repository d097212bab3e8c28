# Sourced by the other scripts: makes .venv and installs asr into it, unless that has been done already.
#
#   PYTHON        interpreter that makes .venv (default: python3; 3.10 or newer)
#   ASR_TORCH     torch to install (default: torch==2.13.0); several words are allowed: "torch==2.9.1 torchaudio==2.9.1"
#   ASR_PIP_ARGS  further arguments for pip, such as the package index of a CPU or GPU build of torch (see README.md)
#
# shellcheck shell=bash

asr_root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
asr_venv="$asr_root/.venv"

asr_stop() {
    echo "$1" >&2
    exit "${2:-1}"
}

# asr_setup EXTRA...: install asr with these extras (editable, so that the checkout is what runs).
asr_setup() {
    local extras stamp wanted
    extras="$(IFS=,; echo "$*")"
    asr_make_venv
    stamp="$asr_venv/.asr-installed-$extras"
    wanted="$(asr_fingerprint)"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        return
    fi
    echo "Installing asr[$extras] into $asr_venv ..." >&2
    rm -f "$stamp"
    asr_pip_install "$extras"
    echo "$wanted" > "$stamp"
}

asr_make_venv() {
    local python="${PYTHON:-python3}"
    if "$asr_venv/bin/python" -c '' 2> /dev/null; then
        "$asr_venv/bin/python" -m pip --version > /dev/null 2>&1 || "$asr_venv/bin/python" -m ensurepip > /dev/null
        return
    fi
    command -v "$python" > /dev/null || asr_stop "'$python' is not there: install Python 3.10 or newer, or set PYTHON to one." 2
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        asr_stop "'$python' is $("$python" --version 2>&1 | head -n 1): Python 3.10 or newer is needed; set PYTHON to one." 2
    "$python" -c 'import venv, ensurepip' 2> /dev/null ||
        asr_stop "'$python' cannot make virtual environments: install its venv package (Debian, Ubuntu: python3-venv)." 2
    "$python" -m venv --clear "$asr_venv"
}

# What the installation depends on; when any of it changes, pip runs again. The place counts: a moved .venv is broken.
asr_fingerprint() {
    "$asr_venv/bin/python" - "$asr_root" "${ASR_TORCH:-}" "${ASR_PIP_ARGS:-}" <<'PYTHON'
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
parts = [*sys.argv[1:], sys.version, *((root / name).read_text() for name in ("pyproject.toml", "scripts/constraints.txt"))]
print(hashlib.sha256("\0".join(parts).encode()).hexdigest())
PYTHON
}

asr_pip_install() {
    local torch=() arguments=() constraints="$asr_root/scripts/constraints.txt"
    read -r -a arguments <<< "${ASR_PIP_ARGS:-}"
    if [ -n "${ASR_TORCH:-}" ]; then
        read -r -a torch <<< "$ASR_TORCH"
        constraints="$asr_venv/constraints.txt"
        grep -v '^torch' "$asr_root/scripts/constraints.txt" > "$constraints"
    fi
    (cd -- "$asr_root" && "$asr_venv/bin/python" -m pip install --disable-pip-version-check --progress-bar off --quiet \
        ${arguments[@]+"${arguments[@]}"} -c "$constraints" ${torch[@]+"${torch[@]}"} -e ".[$1]") ||
        asr_stop "The installation failed: pip says why above; the same command tries again."
}
