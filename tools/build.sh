#!/bin/sh
# Builds with Go, and says every 100 packages how far it is: build.sh PACKAGES-IN-ALL ARGUMENTS-OF-GO-BUILD…
all="$1"
shift
{
	"${GO:-go}" build -v "$@" 2>&1
	echo "exit $?"
} | {
	n=0
	while IFS= read -r line; do
		case "$line" in
		"exit "*) exit "${line#exit }" ;;
		*[\ :]*) printf '%s\n' "$line" >&2 ;; # what is downloaded, or wrong
		*)
			n=$((n + 1))
			[ $((n % 100)) -ne 0 ] || echo "$n of about $all packages are compiled"
			;;
		esac
	done
	exit 1 # it was killed
}
