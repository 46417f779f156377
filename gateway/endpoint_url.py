"""The address of an engine: what is accepted, and the one form it is kept in."""

import re
from urllib.parse import urlsplit

_USERINFO = re.compile(r"//[^/@\s]*@")


def without_userinfo(text: str) -> str:
    """Pure. `text` with the `user:password` of any URL in it blanked out, fit for a log or an error."""
    return _USERINFO.sub("//***@", text)


def engine_url(url: str) -> str:
    """Pure. `url` as it is kept: without trailing slashes or a trailing `/v1`, which the gateway adds itself.

    Raises:
        ValueError: not an `http://` address, or with parts that make no sense for an engine.
    """
    if not (url.isascii() and url.isprintable() and " " not in url):
        raise ValueError("a URL has only printable ASCII characters and no spaces")
    parts = urlsplit(url)
    if parts.scheme == "https":
        raise ValueError("TLS to engines is not supported yet; use http:// (within a trusted network)")
    if parts.scheme != "http" or not parts.netloc:
        raise ValueError("an engine's URL is http://HOST[:PORT][/PREFIX]")
    if "@" in parts.netloc:
        raise ValueError("a URL may not carry a user name or password; use api_key_env")
    if "?" in url or "#" in url:
        raise ValueError("a URL may not have a query or fragment")
    _check_host(parts.hostname)
    if parts.port == 0:  # `port` itself raises ValueError above 65535 and for letters
        raise ValueError("port must be between 1 and 65535")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"http://{parts.netloc.removesuffix(':')}{path}"


def _check_host(host: str | None) -> None:
    if not host:
        raise ValueError("the URL names no host")
    if not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9a-f:.]+(%[A-Za-z0-9._-]+)?", host):
        raise ValueError("the host is neither a name nor an IP address")
