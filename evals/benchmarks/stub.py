"""A local OpenAI-compatible service that answers at once: what is measured against it is everything but the model.

It is a process of its own. Each answer is chosen by the tools that the request offers: the planner's, the executor's
next step, the evaluator's or the crown's. `python -m evals.benchmarks.stub` prints its port and serves until killed.
"""

import asyncio
import sys
from typing import Final

import orjson

from operations.canonical import JsonObject

STEPS: Final = 3
_STEP: Final[JsonObject] = {
    "playbook": "bench.write",
    "system": "bench",
    "why": "It was asked for.",
    "expected_effect": "A file.",
}
_PLAN: Final[JsonObject] = {
    "summary": "Write three files.",
    "steps": [{**_STEP, "arguments": {"name": f"file{number}"}} for number in range(1, STEPS + 1)],
}
_ANSWERS: Final[dict[str, JsonObject]] = {
    "propose": _PLAN,
    "report": {"summary": "All three files were written.", "stopped": False},
    "judge": {"passed": True, "rollback": False, "reasons": ["Every check passed."]},
    "rule": {"ruling": "complete", "reasons": ["The verdict is a pass."]},
}


def _tool(request: JsonObject) -> tuple[str, JsonObject]:
    tools = request.get("tools")
    offered = [tool["function"]["name"] for tool in tools] if isinstance(tools, list) else []  # type: ignore[index,call-overload]  # a request of our own
    if "report" in offered:
        messages = request["messages"]
        done = sum(message["role"] == "tool" for message in messages)  # type: ignore[union-attr,index,call-overload]  # as above
        if done < STEPS:
            return f"step_{done + 1}", {}
    name = next(name for name in offered if name in _ANSWERS)
    return name, _ANSWERS[name]


def completion(body: bytes) -> bytes:
    """The chat completion that answers one request."""
    name, arguments = _tool(orjson.loads(body))
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": name, "arguments": orjson.dumps(arguments).decode()},
    }
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    return orjson.dumps(
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 0,
            "model": "stub",
            "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    )


async def _serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.partition(b":")[2])
                for line in head.lower().split(b"\r\n")
                if line.startswith(b"content-length:")
            )
            answer = completion(await reader.readexactly(length))
            headers = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"
            writer.write(headers.encode() + answer)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    """Serve on a free port of the loopback address."""
    server = await asyncio.start_server(_serve_connection, "127.0.0.1", 0, limit=2**22)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
