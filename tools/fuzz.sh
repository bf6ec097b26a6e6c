#!/bin/sh
# Fuzzes every target for a time, or so many inputs (100000x), each. '': 300,000 inputs, of slow targets 100,000, or 25 s for those that
# need the servers that it is started with. At the end of a time, Go 1.26 may report "context deadline exceeded" where nothing was found
# (https://go.dev/issue/75804), so what CI runs is counted.
# Go minimizes each input that finds new code for up to a minute, in which it tries no other: most of a short run went into that. So a
# minimization gets a few tries only.
#
#   tools/fuzz.sh TIME [PACKAGE[:TARGET]]
set -eu
cd "$(dirname "$0")/.."
GO=${GO:-go}
time=$1 wanted=${2:-}
set -- ./webhook:FuzzParseEvent ./webhook:FuzzParseBatch ./webhook:FuzzURLRules ./webhook:FuzzCheckSubscription ./webhook:FuzzFilter \
	./api:FuzzBotAPI ./api:FuzzServiceAPI ./api:FuzzPortal ./operators:FuzzPages ./worker:FuzzWorkflows ./internal/history:FuzzQueue
found=
for target; do
	case $target in "$wanted"*) ;; *) continue ;; esac
	found=1 tries=10x for=25s
	case $target in
	./webhook:FuzzCheckSubscription | ./webhook:FuzzFilter) tries=100x for=100000x ;;
	./webhook:*) tries=100x for=300000x ;;
	esac
	for=${time:-$for}
	echo "$target, $for"
	$GO test -timeout 0 -run '^$' -fuzz "^${target#*:}\$" -fuzztime "$for" -fuzzminimizetime $tries "${target%:*}"
done
[ -n "$found" ] || { echo "no fuzz target begins with $wanted" >&2; exit 1; }
