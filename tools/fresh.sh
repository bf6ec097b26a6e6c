#!/bin/sh
# Runs the README's two commands on a fresh machine: a minimal Debian with Go, make and Postgres's programs and nothing
# else, in a folder of its own, for a user who has just been made, and then, on another such machine, for root. It needs
# root itself, on a Debian, and reaches nothing but the registries of packages, as this machine reaches them.
#
# A user who is not root cannot install packages: there, root has installed what tools/test-deps.sh asks for.
#
#	FRESH_TEST      what to run as the second command: "make test"; empty for none
#	FRESH_USERS     as whom: "newcomer root"
#	FRESH_POSTGRES  a package with Postgres's programs: "postgresql"; empty lets make run fetch them
#	FRESH_CACHE     1 lends this machine's Go caches: what was built here is not built again
#	KEEP            1 keeps the folder, which is printed
#
# MATHUB_ADDR, MATHUB_TEMPORAL_PORT and MATHUB_UI_PORT are passed on, for where their defaults are in use.
set -eu
cd "$(dirname "$0")/.."

say() { echo "fresh: $*"; }
die() {
	echo "fresh: $*" >&2
	exit 1
}

# Mounts and processes end with the namespaces that hold them, whatever happens.
if [ -z "${FRESH_DIR-}" ]; then
	[ "$(id -u)" = 0 ] || die "only root can make a machine in a folder: run it as root"
	if ! command -v debootstrap >/dev/null; then
		apt-get -qq update && apt-get -qq install -y --no-install-recommends debootstrap >/dev/null || die "debootstrap is needed: apt-get install debootstrap"
	fi
	FRESH_DIR=$(mktemp -d -p "${TMPDIR:-/var/tmp}" fresh-XXXXXX)
	export FRESH_DIR
	clean() {
		if [ -n "${KEEP-}" ]; then
			say "kept in $FRESH_DIR"
		else
			rm -rf --one-file-system "$FRESH_DIR"
		fi
	}
	trap clean EXIT
	trap 'exit 130' INT TERM HUP
	unshare --mount --pid --fork --kill-child --mount-proc "$PWD/tools/fresh.sh"
	exit
fi

users="${FRESH_USERS-newcomer root}"
test="${FRESH_TEST-make test}"
postgres="${FRESH_POSTGRES-postgresql}"
base="$FRESH_DIR/base"
path=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# setting writes a variable for all that runs on the machine.
setting() { printf "export %s='%s'\n" "$1" "$(printf %s "$2" | sed "s/'/'\\\\''/g")" >>"$base/etc/fresh"; }

# settings are how this machine reaches its registries, and nothing else of it.
settings() {
	cp -L /etc/resolv.conf "$base/etc/resolv.conf"
	cp /etc/hosts "$base/etc/hosts"
	apt-config dump | grep -E '^Acquire::(https?|Check-|Retries)' >"$base/etc/apt/apt.conf.d/90fresh" || true
	for name in http_proxy https_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY PIP_INDEX_URL MATHUB_ADDR MATHUB_TEMPORAL_PORT MATHUB_UI_PORT; do
		value=$(printenv "$name") && setting "$name" "$value"
	done
	for name in GOPROXY GONOPROXY GOPRIVATE GOSUMDB GONOSUMDB GOINSECURE; do
		setting "$name" "$(go env "$name")"
	done
	if command -v npm >/dev/null; then
		setting npm_config_registry "$(npm config get registry)"
	fi
	authorities="${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}"
	if [ -e "$authorities" ]; then # a package may replace Debian's own file
		cp -L "$authorities" "$base/etc/fresh.crt"
		for name in SSL_CERT_FILE NODE_EXTRA_CA_CERTS npm_config_cafile CURL_CA_BUNDLE GIT_SSL_CAINFO PIP_CERT; do
			setting "$name" /etc/fresh.crt
		done
	fi
}

# make_base makes the machine that is copied for each user.
make_base() {
	. /etc/os-release
	mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' | awk -v suite="$VERSION_CODENAME" '$1 == suite { print $2; exit }')
	[ -n "$mirror" ] || die "apt knows no mirror of Debian $VERSION_CODENAME: run apt-get update"
	say "a minimal Debian $VERSION_CODENAME"
	debootstrap --variant=minbase --include=make "$VERSION_CODENAME" "$base" "$mirror" >"$FRESH_DIR/debootstrap.log" 2>&1 ||
		die "debootstrap failed: $(tail -1 "$FRESH_DIR/debootstrap.log")"
	cp -a "$(go env GOROOT)" "$base/usr/local/go"
	# No service starts with its package.
	printf '#!/bin/sh\nexit 101\n' >"$base/usr/sbin/policy-rc.d"
	chmod +x "$base/usr/sbin/policy-rc.d"
	: >"$base/etc/fresh"
	settings
}

devices() {
	mount -t proc proc "$machine/proc"
	mount -t tmpfs -o mode=755 tmpfs "$machine/dev"
	for device in null zero full random urandom tty; do
		: >"$machine/dev/$device"
		mount --bind "/dev/$device" "$machine/dev/$device"
	done
	mkdir "$machine/dev/shm" "$machine/dev/pts"
	mount -t tmpfs -o mode=1777 tmpfs "$machine/dev/shm"
	ln -s /proc/self/fd "$machine/dev/fd"
	ln -s /proc/self/fd/0 "$machine/dev/stdin"
	ln -s /proc/self/fd/1 "$machine/dev/stdout"
	ln -s /proc/self/fd/2 "$machine/dev/stderr"
}

# lend_caches puts this machine's Go caches under the machine's, at the same path, as Go knows what it has built by its
# path. What the machine writes stays its own.
lend_caches() {
	for name in GOMODCACHE GOCACHE; do
		cache=$(go env "$name")
		mkdir -p "$machine$cache" "$FRESH_DIR/$who-$name/over" "$FRESH_DIR/$who-$name/work"
		mount -t overlay overlay -o "lowerdir=$cache,upperdir=$FRESH_DIR/$who-$name/over,workdir=$FRESH_DIR/$who-$name/work" "$machine$cache"
		if [ "$who" != root ]; then
			find "$machine$cache" -type d -exec chown --reference="$machine$home" {} +
			chmod go+x "$machine/root"
		fi
		as_user="$as_user export $name='$cache';"
	done
}

# on USER LINE runs a line on the machine as root or as "$who", who is in the clone.
on() {
	user="$1"
	shift
	user_home=/root before=
	if [ "$user" != root ]; then
		user_home="/home/$user"
	fi
	if [ "$user" = "$who" ]; then
		before="cd $user_home/mathub-webhooks; $as_user"
	fi
	chroot --userspec="$user:$user" --groups='' "$machine" /usr/bin/env -i HOME="$user_home" USER="$user" PATH="$path" LANG=C.UTF-8 \
		/bin/sh -c "set -e; . /etc/fresh; $before $*"
}

install() {
	on_root="apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $* >/tmp/apt.log 2>&1"
	(who=none && on root "$on_root") || die "the packages $* could not be installed: $(tail -1 "$machine/tmp/apt.log")"
}

# block prints README's lines for the first delivery.
block() {
	sed -n '/^<!-- test: first delivery/,/^```$/p' "$machine$home/mathub-webhooks/README.md" | sed -e '1,2d' -e '$d'
}

# run_it runs make run until README's lines have given a delivery.
run_it() {
	say "$who: make run"
	began=$(date +%s)
	: >"$output"
	on "$who" 'echo $$ >/tmp/run.pid; exec make run' >"$output" 2>&1 &
	running=$!
	until grep -q '^Ready after' "$output"; do
		kill -0 "$running" 2>/dev/null || die "$who: make run ended: $(tail -5 "$output")"
		[ $(($(date +%s) - began)) -lt 1800 ] || die "$who: make run is not ready after half an hour"
		sleep 1
	done
	say "$who: ready after $(($(date +%s) - began)) s"
	[ -z "$test" ] && [ "$who" = root ] && install python3
	[ -z "$test" ] || { say "$who: make test-deps" && on "$who" make test-deps; }
	say "$who: README's lines"
	block >"$machine/tmp/lines"
	# The last line is asked again: an attempt is in the history when it has ended.
	cat >>"$machine/tmp/lines" <<'LINES'
for i in $(seq 100); do
	sleep 0.2
	if mathub-webhooks webhooks deliveries --json | grep -q '"eventType":"post.created".*"success":true'; then
		kill %1
		exit
	fi
done
exit 1
LINES
	on "$who" 'bash -eu /tmp/lines >/tmp/lines.out 2>&1' || die "$who: README's lines gave no delivery: $(cat "$machine/tmp/lines.out")"
	say "$who: delivered"
	# make passes no signal on; a terminal gives Ctrl-C to both.
	on "$who" 'kill -INT $(cat /tmp/run.pid) $(cat /proc/$(cat /tmp/run.pid)/task/*/children)'
	status=0
	wait "$running" || status=$?
	grep -q 'Stopping' "$output" || die "$who: make run did not stop in order, but with status $status: $(tail -5 "$output")"
	say "$who: stopped"
}

try() {
	machine="$FRESH_DIR/$who" output="$FRESH_DIR/$who.log" as_user=
	cp -a "$base" "$machine"
	devices
	home=/root
	if [ "$who" != root ]; then
		home="/home/$who"
		chroot "$machine" useradd --create-home "$who"
	fi
	git clone --quiet --no-hardlinks . "$machine$home/mathub-webhooks"
	chown -R --reference="$machine$home" "$machine$home/mathub-webhooks"
	[ "${FRESH_CACHE-}" != 1 ] || lend_caches
	[ -z "$postgres" ] || install "$postgres"
	if [ "$who" != root ]; then
		install "$(on "$who" tools/test-deps.sh packages)"
	fi
	run_it
	[ -z "$test" ] || { say "$who: $test" && on "$who" "$test"; }
	say "$who: all is well"
}

make_base
for who in $users; do
	try
done
