#!/bin/sh
# Fuzzes every target for a time each, with the servers that it is started with. Go minimizes each input that finds new code for up
# to a minute, in which it tries no other: by default most of a short run went into that. So a minimization gets a few tries only.
#
#   tools/fuzz.sh TIME [PACKAGE:TARGET...]
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
time=$1
shift
[ $# -gt 0 ] || set -- ./webhook:FuzzParseEvent ./webhook:FuzzParseBatch ./webhook:FuzzURLRules ./webhook:FuzzCheckSubscription ./webhook:FuzzFilter \
	./api:FuzzBotAPI ./api:FuzzServiceAPI ./api:FuzzPortal ./operators:FuzzPages ./worker:FuzzWorkflows ./internal/history:FuzzQueue
for target; do
	echo "$target, $time"
	tries=10x
	case $target in ./webhook:*) tries=100x ;; esac
	$GO test -timeout 0 -run '^$' -fuzz "^${target#*:}\$" -fuzztime "$time" -fuzzminimizetime $tries "${target%:*}"
done
