"""The gateways that are compared: how each is started in front of the stand-in engine, and what it needs.

Each runs with one worker as its documentation suggests for production, the peers with request logs off.
`checks` says what a gateway does for each request beyond relaying, so that a reader can weigh the figures.
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

KEY = "sk-bench"
OPENAI_PATH = "/v1/chat/completions"
# Debian keeps nginx and haproxy here, which is not on every user's PATH.
_SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])


@dataclass(frozen=True, slots=True)
class Site:
    """Where a gateway is to run: ports on 127.0.0.1, a folder for its files, and the peers' installation."""

    engine_port: int
    port: int
    metrics_port: int
    folder: Path
    peers: Path

    @property
    def engine(self) -> str:
        """The engine's address."""
        return f"http://127.0.0.1:{self.engine_port}"

    def write(self, name: str, text: str) -> str:
        """Write a configuration file and return its path."""
        path = self.folder / name
        path.write_text(text)
        return str(path)


@dataclass(frozen=True, slots=True)
class Gateway:
    """One line of the comparison. `argv` is None for the engine itself."""

    name: str
    argv: Callable[[Site], list[str]] | None
    checks: str
    install: str = ""
    path: str = OPENAI_PATH
    headers: Callable[[Site], tuple[str, ...]] = lambda _: ()


def missing(gateway: Gateway, site: Site) -> str | None:
    """Why this gateway cannot run here, or None."""
    if gateway.argv is None:
        return None
    argv = gateway.argv(site)
    absent = [word for word in argv if word.startswith(str(site.peers)) and not Path(word).exists()]
    if not shutil.which(argv[0]):
        absent.insert(0, argv[0])
    return f"{absent[0]} is not installed ({gateway.install})" if absent else None


def _system(name: str) -> str:
    return shutil.which(name, path=_SEARCH) or name


def _penstock(site: Site) -> list[str]:
    keys = site.write("keys", f"{KEY} bench\n")
    script = Path(sys.executable).parent / "penstock"
    command = str(script) if script.exists() else _system("penstock")
    engine = f"m={site.engine}"
    return [command, "gateway", "--engine", engine, "--port", str(site.port), "--keys", keys]


def _nginx(site: Site) -> list[str]:
    config = f"""daemon off; pid {site.folder}/nginx.pid; worker_processes 1; error_log stderr error;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {site.folder}/body; proxy_temp_path {site.folder}/proxy;
  fastcgi_temp_path {site.folder}/fcgi; uwsgi_temp_path {site.folder}/uwsgi;
  scgi_temp_path {site.folder}/scgi;
  upstream engine {{ server 127.0.0.1:{site.engine_port}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{site.port} backlog=4096; keepalive_requests 1000000; client_body_buffer_size 256k;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
    return [_system("nginx"), "-e", "stderr", "-c", site.write("nginx.conf", config)]


def _haproxy(site: Site) -> list[str]:
    config = f"""global
  nbthread 1
  maxconn 8192
defaults
  mode http
  option http-no-delay
  timeout connect 5s
  timeout client 120s
  timeout server 120s
frontend clients
  bind 127.0.0.1:{site.port}
  default_backend engine
backend engine
  server one 127.0.0.1:{site.engine_port}
"""
    return [_system("haproxy"), "-db", "-f", site.write("haproxy.cfg", config)]


def _router(site: Site, command: list[str]) -> list[str]:
    options = ["--worker-urls", site.engine, "--host", "127.0.0.1", "--port", str(site.port)]
    quiet = ["--policy", "cache_aware", "--prometheus-port", str(site.metrics_port), "--log-level", "error"]
    return [*command, *options, *quiet]


def _sglang_router(site: Site) -> list[str]:
    return _router(site, [f"{site.peers}/rust/bin/python", "-m", "sglang_router.launch_router"])


def _vllm_router(site: Site) -> list[str]:
    return _router(site, [f"{site.peers}/rust/bin/vllm-router"])


def _portkey(site: Site) -> list[str]:
    server = f"{site.peers}/portkey/node_modules/@portkey-ai/gateway/build/start-server.js"
    return [_system("node"), server, f"--port={site.port}", "--headless"]


def _portkey_headers(site: Site) -> tuple[str, ...]:
    return ("x-portkey-provider: openai", f"x-portkey-custom-host: {site.engine}/v1")


def _litellm(site: Site) -> list[str]:
    config = f"""model_list:
  - model_name: m
    litellm_params: {{model: openai/m, api_base: "{site.engine}/v1", api_key: sk-engine}}
litellm_settings: {{telemetry: false, drop_params: true}}
general_settings: {{master_key: {KEY}}}
"""
    files = ["--config", site.write("litellm.yaml", config)]
    where = ["--host", "127.0.0.1", "--port", str(site.port)]
    return [f"{site.peers}/litellm/bin/litellm", *files, *where, "--num_workers", "1"]


_INSTALL = "loadtests/gateway/install_peers.sh"
_TABLE = (
    Gateway("direct", None, "the engine alone"),
    Gateway("penstock", _penstock, "keys, usage, metrics", "pip install .", "/openai/v1/chat/completions"),
    Gateway("nginx", _nginx, "nothing", "apt-get install nginx-light"),
    Gateway("haproxy", _haproxy, "nothing", "apt-get install haproxy"),
    Gateway("sglang-router", _sglang_router, "metrics, cache-aware choice", f"{_INSTALL} rust"),
    Gateway("vllm-router", _vllm_router, "metrics, cache-aware choice", f"{_INSTALL} rust"),
    Gateway("portkey", _portkey, "translation", f"{_INSTALL} portkey", headers=_portkey_headers),
    Gateway("litellm", _litellm, "keys, usage, translation", f"{_INSTALL} litellm"),
)
GATEWAYS = {gateway.name: gateway for gateway in _TABLE}
