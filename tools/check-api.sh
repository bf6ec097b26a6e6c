#!/bin/sh
# Fails where api/openapi.yaml breaks what a client of the last release relies on. Before the first release, that is what
# main promises.
set -eu
cd "$(dirname "$0")/.."
for base in "$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null || true)" origin/main main HEAD; do
	[ -n "$base" ] && git rev-parse --quiet --verify "$base^{commit}" >/dev/null && break
done
before=$(mktemp)
trap 'rm -f "$before"' EXIT
git show "$base:api/openapi.yaml" >"$before"
echo "api/openapi.yaml, beside that of $base:"
"${GO:-go}" tool -modfile=tools/go.mod oasdiff breaking --fail-on ERR "$before" api/openapi.yaml
