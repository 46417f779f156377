#!/bin/sh
# Installs the gateways that Penstock is measured beside, into $PEERS (default ~/.cache/penstock-peers).
#
#   loadtests/gateway/install_peers.sh [rust] [litellm] [portkey] [system]     default: rust litellm portkey
#
# `rust` is the routers of SGLang and vLLM; `system` is nginx and haproxy by apt-get, which needs root.
# Each goes into an environment of its own and touches nothing else. What is there already is brought up to date.
set -eu

peers=${PEERS:-$HOME/.cache/penstock-peers}
python=${PYTHON:-python3}
mkdir -p "$peers"

venv() { # name package...
    name=$1
    shift
    [ -x "$peers/$name/bin/python" ] || "$python" -m venv "$peers/$name"
    "$peers/$name/bin/python" -m pip install --quiet --upgrade "$@"
}

portkey() {
    command -v npm >/dev/null || { echo "portkey: needs npm (Node.js 18 or newer)" >&2; return 1; }
    rm -rf "$peers/portkey"
    mkdir -p "$peers/portkey"
    # With @hono/node-server 1.14.2 or later every stream fails (github.com/Portkey-AI/gateway, issue 1389).
    cat > "$peers/portkey/package.json" <<'JSON'
{"private": true, "dependencies": {"@portkey-ai/gateway": "*"}, "overrides": {"@hono/node-server": "1.14.1"}}
JSON
    (cd "$peers/portkey" && npm install --silent --no-audit --no-fund)
}

[ $# -gt 0 ] || set -- rust litellm portkey
for peer in "$@"; do
    echo "installing $peer into $peers"
    case $peer in
        rust) venv rust sglang-router vllm-router ;;
        litellm) venv litellm 'litellm[proxy]' ;;
        portkey) portkey ;;
        system) apt-get install -y --no-install-recommends nginx-light haproxy ;;
        *) echo "unknown peer: $peer (rust, litellm, portkey, system)" >&2; exit 2 ;;
    esac
done
