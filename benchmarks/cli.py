"""`hearth bench`: the command line of the load generator (also `python -m benchmarks.load`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.arrivals import load_trace
from benchmarks.curve import Point, draw, rates_up_to_saturation, sweep
from benchmarks.dialects import NAMES
from benchmarks.load import Plan, Result, run
from benchmarks.prompts import Shape, load, synthetic
from benchmarks.report import document, show
from benchmarks.stats import Slo
from benchmarks.target import Keys, Target


def bench(
    model: Annotated[str, typer.Option(help="Model name (OpenAI) or endpoint name (SageMaker).")],
    url: Annotated[str, typer.Option(help="Address of the server.")] = "http://127.0.0.1:8080",
    dialect: Annotated[str, typer.Option(help=f"One of {', '.join(NAMES)}.")] = "openai-completions",
    stream: Annotated[bool, typer.Option(help="Ask for streamed answers.")] = True,
    max_tokens: Annotated[int, typer.Option(min=1, help="Length of each answer.")] = 64,
    ignore_eos: Annotated[bool, typer.Option(help="Keep answers at full length (vLLM's extension).")] = True,
    concurrency: Annotated[int | None, typer.Option(help="Closed loop: requests in flight.")] = None,
    rate: Annotated[float | None, typer.Option(help="Open loop: Poisson arrivals per second.")] = None,
    trace: Annotated[Path | None, typer.Option(help="Open loop: file of arrival times.")] = None,
    sweep_rates: Annotated[
        str | None, typer.Option("--sweep", help="Rates such as 1,2,4, or `auto`: one open loop each.")
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="Seconds measured (10 unless --requests).")] = None,
    requests: Annotated[int | None, typer.Option(min=1, help="Closed loop: requests measured.")] = None,
    warmup: Annotated[float, typer.Option(min=0, help="Seconds of the same load before measuring.")] = 2.0,
    processes: Annotated[int, typer.Option(min=0, help="Generator processes; 0 finds out.")] = 0,
    prompts: Annotated[Path | None, typer.Option(help="Prompts: lines, or .jsonl with `prompt`.")] = None,
    prompt_tokens: Annotated[int, typer.Option(help="Length of synthetic prompts.")] = 64,
    shared_tokens: Annotated[int, typer.Option(help="Of which shared within a group.")] = 0,
    groups: Annotated[int, typer.Option(help="Groups of synthetic prompts.")] = 1,
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer folder, for exact lengths.")] = None,
    slo: Annotated[str | None, typer.Option(help="Goodput bounds in ms: ttft:200,tpot:50,e2e:2000.")] = None,
    api_key: Annotated[str | None, typer.Option(help="Sent as a bearer token.")] = None,
    sign: Annotated[str | None, typer.Option(help="Sign with SigV4 for this region.")] = None,
    access_key: Annotated[str | None, typer.Option(help="Of the signer; else botocore's own.")] = None,
    secret_key: Annotated[str | None, typer.Option(help="Of the signer; else botocore's own.")] = None,
    body: Annotated[str, typer.Option(help="JSON object merged into each request's body.")] = "{}",
    timeout: Annotated[float, typer.Option(help="Seconds one request may take.")] = 600.0,
    seed: Annotated[int, typer.Option(help="Of prompts and arrivals.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Write the result as JSON here.")] = None,
    picture: Annotated[Path, typer.Option(help="Where a sweep draws its curve.")] = Path("curve.png"),
) -> None:
    """Load an endpoint and say how it did: TTFT, TPOT, ITL, end to end, throughput, goodput, errors."""
    console = Console()
    if sum(each is not None for each in (concurrency, rate, trace, sweep_rates)) == 0:
        concurrency = 8
    if seconds is None and requests is None and trace is None:
        seconds = 10.0
    try:
        keys = Keys(sign, access_key, secret_key) if sign else None
        target = Target(
            url, model, dialect, stream, ignore_eos, api_key, keys, extra=_object(body), timeout_s=timeout
        )
        target.spoken()
        shape = Shape(prompt_tokens, shared_tokens, groups)
        plan = Plan(
            target=target,
            prompts=tuple(load(prompts) if prompts else synthetic(shape, seed, tokenizer)),
            max_tokens=max_tokens,
            concurrency=concurrency,
            rate=1.0 if sweep_rates else rate,
            trace=tuple(load_trace(trace)) if trace else None,
            seconds=seconds,
            requests=requests,
            warmup_s=warmup,
            processes=processes or None,
            seed=seed,
            slo=Slo.parse(slo) if slo else None,
        )
        found = _sweep(plan, sweep_rates, picture, console) if sweep_rates else _once(plan, console)
    except (ValueError, OSError) as error:
        console.print(f"[red]{error}[/red]")
        raise typer.Exit(2) from None
    if output is not None:
        output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"--body is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("--body must be a JSON object")
    return found


def _once(plan: Plan, console: Console) -> dict[str, Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as shown:
        task = shown.add_task("requests finished", total=plan.requests)

        def progress(finished: int) -> None:
            shown.update(task, completed=finished, refresh=True)

        result: Result = run(plan, progress if console.is_terminal else None)
    show(result, console)
    return document(plan, result)


def _sweep(plan: Plan, rates: str, picture: Path, console: Console) -> dict[str, Any]:
    wanted = rates_up_to_saturation(plan) if rates == "auto" else _rates(rates)

    def each(point: Point) -> None:
        summary = point.result.summary
        console.print(
            f"{point.rate:8.2f} offered/s {summary.requests_per_s:8.2f} served/s   "
            f"TTFT p50 {summary.ttft.p50:8.1f} p99 {summary.ttft.p99:8.1f} ms   "
            f"E2E p50 {summary.e2e.p50:8.1f} p99 {summary.e2e.p99:8.1f} ms"
        )
        for warning in point.result.generator.warnings:
            console.print(f"[yellow]warning: {warning}[/yellow]")

    points = sweep(plan, wanted, each)
    draw(points, f"{plan.target.model} at {plan.target.url}, {plan.max_tokens} tokens", picture)
    console.print(f"curve drawn to {picture}")
    return {"sweep": [{"rate": point.rate, **document(plan, point.result)} for point in points]}


def _rates(text: str) -> list[float]:
    try:
        rates = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--sweep needs rates such as 1,2,4 or `auto`, got {text!r}") from None
    if any(not 0 < rate < float("inf") for rate in rates):
        raise ValueError(f"--sweep rates must be above 0, got {text!r}")
    return rates


def main() -> None:
    typer.run(bench)
