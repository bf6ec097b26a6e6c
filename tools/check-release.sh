#!/bin/sh
# Checks what make release-snapshot has written into dist/: names, checksums, and what is in the archives.
set -eu
cd "$(dirname "$0")/../dist"

die() {
	echo "release: $*" >&2
	exit 1
}

for system in linux_amd64 linux_arm64 darwin_amd64 darwin_arm64; do
	set -- mathub-webhooks_*_"$system".tar.gz
	[ $# = 1 ] && [ -f "$1" ] || die "no archive for $system"
	for file in mathub-webhooks LICENSE README.md CHANGELOG.md docs/README.md docs/decisions/order.md deploy/kubernetes/; do
		tar -tzf "$1" | grep -q "^$file" || die "$1 has no $file"
	done
	grep -q " $1\$" checksums.txt || die "checksums.txt has no $1"
done
sha256sum --check --quiet checksums.txt || die "a checksum is wrong"
[ -s "$(echo mathub-webhooks_*.cdx.json)" ] || die "there is no SBOM"

case "$(uname -s)_$(uname -m)" in
Linux_x86_64) own=linux_amd64 ;;
Linux_aarch64) own=linux_arm64 ;;
Darwin_arm64) own=darwin_arm64 ;;
*) own=darwin_amd64 ;;
esac
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
tar -xzf mathub-webhooks_*_"$own".tar.gz -C "$folder" mathub-webhooks
echo "release: four archives of $("$folder/mathub-webhooks" --version), checksums and SBOM are right"
