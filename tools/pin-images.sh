#!/usr/bin/env bash
# Writes behind the tag of each image in docker-compose.yml and the Dockerfile the digest that its registry has for it now.
# Run it when you have changed a tag, and to get the fixes that were put under one. It needs network and docker with buildx.
set -euo pipefail
cd "$(dirname "$0")/.."
files=(docker-compose.yml Dockerfile)

# An image without a tag is built here.
images=$(sed -nE 's/^(FROM|[[:space:]]+image:) ([^ @]+:[^ @]+)(@[^ ]+)?( .*)?$/\2/p' "${files[@]}" | sort -u)

# All digests first, so that a registry that fails leaves the files as they are.
edits=()
for image in $images; do
	digest=$(docker buildx imagetools inspect --format '{{.Manifest.Digest}}' "$image")
	if ! [[ $digest =~ ^sha256:[0-9a-f]{64}$ ]]; then
		echo "$image: docker prints no digest, but: $digest" >&2
		exit 1
	fi
	echo "$image@$digest"
	edits+=(-e "s#^(FROM|[[:space:]]+image:) ${image//./\\.}(@[^ ]+)?( .*)?\$#\\1 $image@$digest\\3#")
done
for file in "${files[@]}"; do
	sed -i.old -E "${edits[@]}" "$file"
	rm "$file.old"
done
