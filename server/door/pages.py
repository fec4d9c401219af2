"""The page at `/`: what runs here and how to call it."""

from __future__ import annotations

import html
import json

from models.catalogue import resolve
from server.control import endpoints
from server.settings import Settings
from server.store.store import Resource, Store


def ready_page(settings: Settings, store: Store) -> str:
    """An HTML page; everything that came from a user is escaped."""
    rows = "".join(_row(resource) for resource in endpoints.find(store))
    blocks = "".join(
        f"<h2>{html.escape(title)}</h2><pre>{html.escape(text)}</pre>"
        for title, text in snippets(settings, endpoints.find(store)).items()
    )
    return _PAGE.format(rows=rows or "<tr><td colspan=3>none yet</td></tr>", blocks=blocks)


def snippets(settings: Settings, found: list[Resource]) -> dict[str, str]:
    """Lines to copy for curl, openai and boto3, for the first endpoint that generates text."""
    url, asks = settings.url, settings.authenticates
    name = next((r.name for r in found if _generates(r)), "my-llm-endpoint")
    body = json.dumps({"inputs": "def fibonacci(n):", "parameters": {"max_new_tokens": 64, "temperature": 0.7}})
    key = 'os.environ["HEARTH_API_KEY"]' if asks else '"any"'
    signed = "" if asks else ',\n                       aws_access_key_id="any", aws_secret_access_key="any"'
    return {
        "curl": f"curl {url}/endpoints/{name}/invocations \\\n"
        + ('  -H "authorization: Bearer $HEARTH_API_KEY" \\\n' if asks else "")
        + f"  -H 'content-type: application/json' \\\n  -d '{body}'",
        "openai": ("import os\n" if asks else "")
        + "from openai import OpenAI\n\n"
        + f'client = OpenAI(base_url="{url}/v1", api_key={key})\n'
        f'print(client.completions.create(model="{name}", prompt="def fibonacci(n):", max_tokens=64).choices[0].text)',
        "boto3": "import boto3, json\n\n"
        f'runtime = boto3.client("sagemaker-runtime", endpoint_url="{url}", region_name="us-east-1"{signed})\n'
        f'answer = runtime.invoke_endpoint(EndpointName="{name}", ContentType="application/json",\n'
        '                                 Body=json.dumps({"inputs": "def fibonacci(n):"}))\n'
        'print(answer["Body"].read().decode())',
    }


def _generates(resource: Resource) -> bool:
    variant = resource.document["variants"][0]
    if not variant["model"]:
        return False
    try:
        return bool((variant["task"] or resolve(variant["model"]).task) == "generate")
    except ValueError:
        return False


def _row(resource: Resource) -> str:
    cells = (resource.name, resource.status, resource.reason or "")
    return "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Hearth</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #8885; }}
pre {{ background: #8882; padding: .8rem; border-radius: .4rem; overflow-x: auto; }}
</style></head>
<body><h1>Hearth</h1>
<table><thead><tr><th>Endpoint</th><th>Status</th><th></th></tr></thead><tbody>{rows}</tbody></table>
{blocks}
<p><a href="/v1/models">/v1/models</a> &middot; <a href="/metrics">/metrics</a></p>
</body></html>
"""
