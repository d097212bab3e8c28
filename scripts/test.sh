#!/usr/bin/env bash
# Run all tests in .venv, which is made if needed. Arguments go to pytest: scripts/test.sh tests/text -k phones
set -euo pipefail
# shellcheck source=scripts/setup.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/setup.sh"
asr_setup dev
cd -- "$asr_root"
exec "$asr_venv/bin/python" -m pytest "$@"
