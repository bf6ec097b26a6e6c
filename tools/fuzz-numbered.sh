#!/bin/sh
# The long form of the fuzz targets that need servers: inputs of a number each. Each of the two API targets gets as many as told, pages
# a tenth, workflows and queues, of which one input takes as long as many calls, a two-hundredth. The last line of each says how many a
# second. To go on where a run has stopped, say the first number: MATHUB_FUZZ_FROM=400000 tools/fuzz-numbered.sh 1000000 ./api
#
#   tools/fuzz-numbered.sh INPUTS [PACKAGE...]
set -eu
cd "$(dirname "$0")/.."
inputs=$1
shift
packages=${*:-./api ./operators ./worker ./internal/history}

# numbered PACKAGE TEST SHARE
numbered() {
	case " $packages " in *" $1 "*) ;; *) return 0 ;; esac
	MATHUB_FUZZ_WORKERS=${MATHUB_FUZZ_WORKERS:-4} MATHUB_FUZZ_FROM=${MATHUB_FUZZ_FROM:+$((MATHUB_FUZZ_FROM / $3))} \
		MATHUB_FUZZ_INPUTS=$((inputs / $3)) ${GO:-go} test -count=1 -timeout 12h -v -run "^$2\$" "$1"
}
numbered ./api TestNumberedInputs 1
numbered ./api TestNumberedInputsOfThePortal 10
numbered ./operators TestNumberedInputs 10
numbered ./worker TestNumberedInputs 200
numbered ./internal/history TestNumberedInputs 200
