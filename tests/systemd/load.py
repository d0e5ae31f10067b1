"""A client that keeps asking: streamed requests one after another, until it is told to stop. Runs inside a machine.

    python load.py URL MODEL STOP_FILE

Prints JSON: how many streams ended well, and what was wrong with the others.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import httpx


def one(client: httpx.Client, url: str, model: str, question: str) -> str | None:
    """None, or what is wrong."""
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": question}]}
    try:
        with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                return f"status {answer.status_code}: {answer.read().decode()[:300]}"
            lines = [line for line in answer.iter_lines() if line]
    except httpx.HTTPError as e:
        return f"{type(e).__name__}: {e}"
    if not lines or lines[-1] != "data: [DONE]":
        return f"the stream ended with {lines[-1:]}"
    return next((line for line in lines if '"error"' in line), None)


def main(url: str, model: str, stop: Path) -> None:
    """Short requests over kept connections, and now and then one whose prompt takes a second or more to read."""
    good, wrong = 0, []
    # what a neuron is told grows, so that some streams are open while everything else happens
    long = "The fleet has three boxes. " * 1500
    end = time.monotonic() + 120
    with httpx.Client(timeout=60) as client:
        while not stop.exists() and time.monotonic() < end:
            problem = one(client, url, model, long if good % 5 == 1 else "What is a neuron?")
            if problem is None:
                good += 1
            else:
                wrong.append(problem)
    print(json.dumps({"good": good, "wrong": wrong}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
