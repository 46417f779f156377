"""The OpenAPI document as one HTML page, without scripts and without anything fetched from elsewhere. Pure.

Swagger UI would be a megabyte of scripts, from a public network that a serving cluster often does not reach.
"""

import json
import re
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Json = Mapping[str, Any]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: #2a6fdb; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: 1rem 1.5rem 4rem; }
code, pre { font: 13px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .7rem; overflow-x: auto; border-radius: 6px; }
section { border-top: 1px solid var(--line); padding-top: .4rem; }
h3 code { font-size: 15px; } a { color: var(--link); text-decoration: none; }
table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid var(--line); padding: .25rem .6rem .25rem 0;
vertical-align: top; } td:first-child { white-space: nowrap; } summary { cursor: pointer; }
.verb { background: var(--link); color: #fff; border-radius: 4px; padding: .1rem .4rem; margin-right: .4rem; }
"""


def render(document: Json) -> str:
    """Pure. The whole page."""
    info = document["info"]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    body = "\n".join(_body(document))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f"<body><h1>{title}</h1>{_prose(info['description'])}"
        f'<p><a href="openapi.json">openapi.json</a></p>{body}</body></html>'
    )


def _body(document: Json) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {tag["name"]: [] for tag in document["tags"]}
    links: dict[str, list[str]] = {tag: [] for tag in by_tag}
    for path, verbs in document["paths"].items():
        for verb, operation in verbs.items():
            tag = operation["tags"][0]
            name = operation["operationId"]
            links[tag].append(f'<a href="#{name}"><code>{escape(path)}</code></a>')
            by_tag[tag].append("".join(_operation(verb.upper(), path, operation, document)))
    yield "<nav><table>"
    for tag, found in links.items():
        yield f"<tr><td>{escape(tag)}</td><td>{' &nbsp; '.join(found)}</td></tr>"
    yield "</table></nav>"
    for tag in document["tags"]:
        yield f"<h2>{escape(tag['name'])}</h2>{_prose(tag['description'])}"
        yield from by_tag[tag["name"]]
    yield "<h2>Shapes</h2>"
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield f'<section id="shape-{name}"><h3><code>{name}</code></h3>{_shape(schema)}</section>'


def _operation(verb: str, path: str, operation: Json, document: Json) -> Iterator[str]:
    yield f'<section id="{operation["operationId"]}"><h3><span class="verb">{verb}</span>'
    yield f"<code>{escape(path)}</code> {escape(operation['summary'])}</h3>"
    yield _prose(operation.get("description", ""))
    if operation.get("security"):
        yield _prose("Needs a key where keys are on: `Authorization: Bearer KEY`.")
    parameters = [_resolved(p, document) for p in operation.get("parameters", ())]
    if parameters:
        yield "<table>"
        for parameter in parameters:
            yield _row(f"{parameter['name']} ({parameter['in']})", "string", parameter.get("description", ""))
        yield "</table>"
    if "requestBody" in operation:
        yield f"<h4>Request</h4>{_content(operation['requestBody']['content'])}"
    for status, response in operation["responses"].items():
        yield f"<details{' open' if status == '200' else ''}><summary><b>{status}</b> "
        yield f"{_inline(response['description'])}</summary>{_content(response.get('content', {}))}</details>"
    yield "</section>"


def _content(content: Json) -> str:
    parts: list[str] = []
    for media_type, body in content.items():
        schema = body["schema"]
        parts.append(f"<p><code>{media_type}</code> {_kind(schema)} {_inline(schema.get('description', ''))}</p>")
        parts += [_example(name, example["value"]) for name, example in body.get("examples", {}).items()]
    return "".join(parts)


def _example(name: str, value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    return f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>"


def _shape(schema: Json) -> str:
    required = schema.get("required", ())
    rows = [
        _row(name + ("" if name in required else "?"), _kind(field), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return f"{_prose(schema.get('description', ''))}<table>{''.join(rows)}</table>"


def _row(name: str, kind: str, description: str) -> str:
    return f"<tr><td><code>{escape(name)}</code></td><td>{kind}</td><td>{_inline(description)}</td></tr>"


def _kind(schema: Json) -> str:
    """The type of a value in a few words, with links to shapes."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#shape-{name}">{name}</a>'
    if "x-event-schema" in schema:
        return f"events of {_kind(schema['x-event-schema'])}"
    if "anyOf" in schema:
        return " | ".join(dict.fromkeys(_kind(each) for each in schema["anyOf"] if each != {"type": "null"}))
    if "enum" in schema or "const" in schema:
        return " | ".join(f"<code>{escape(str(v))}</code>" for v in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return escape(schema.get("type", "anything"))


def _resolved(value: Json, document: Json) -> Json:
    if "$ref" not in value:
        return value
    found = document
    for part in value["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(part)}</p>" for part in text.split("\n\n") if part)


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
