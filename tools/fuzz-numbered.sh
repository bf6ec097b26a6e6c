#!/bin/sh
# The long form of the fuzz targets that need servers: inputs of a number each, as many as told for each, and for workflows and queues,
# of which one takes as long as many calls, a fiftieth of that. The last line of each says how many a second. To go on where a run
# has stopped, say the first number: MATHUB_FUZZ_FROM=400000 tools/fuzz-numbered.sh 1000000 ./api
#
#   tools/fuzz-numbered.sh INPUTS [PACKAGE...]
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
inputs=$1
shift
[ $# -gt 0 ] || set -- ./api ./operators ./worker ./internal/history
for package; do
	some=$inputs
	case $package in ./worker | ./internal/history) some=$((inputs / 50)) ;; esac
	MATHUB_FUZZ_WORKERS=${MATHUB_FUZZ_WORKERS:-2} MATHUB_FUZZ_INPUTS=$some $GO test -count=1 -timeout 12h -v -run '^TestNumberedInputs' "$package"
done
