"""Examples for the documentation. A test checks each against the schema it stands beside."""

from typing import Any

_MESSAGES = [{"role": "user", "content": "What is Penstock?"}]
_CHAT = "chatcmpl-8f14e45fceea167a"
_TEXT = "cmpl-c9f0f895fb98ab91"
_CREATED = 1767225600
_USAGE = {"prompt_tokens": 14, "completion_tokens": 9, "total_tokens": 23}
_WEATHER_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}

# By schema name, then by name of the example.
EXAMPLES: dict[str, dict[str, Any]] = {
    "ChatCompletionRequest": {
        "simple": {"model": "demo", "messages": _MESSAGES},
        "stream": {
            "model": "demo",
            "messages": [{"role": "system", "content": "Be brief."}, *_MESSAGES],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0,
            "max_completion_tokens": 64,
        },
        "tools": {
            "model": "demo",
            "messages": [{"role": "user", "content": "Is it raining in Oslo?"}],
            "tools": [_WEATHER_TOOL],
            "tool_choice": "auto",
        },
        "picture": {
            "model": "demo",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is in this picture?"},
                        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                    ],
                }
            ],
        },
    },
    "ChatCompletion": {
        "answer": {
            "id": _CHAT,
            "object": "chat.completion",
            "created": _CREATED,
            "model": "demo",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Penstock is a gateway for language models."},
                    "finish_reason": "stop",
                }
            ],
            "usage": _USAGE,
        }
    },
    "ChatCompletionChunk": {
        "first": {
            "id": _CHAT,
            "object": "chat.completion.chunk",
            "created": _CREATED,
            "model": "demo",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Pen"}, "finish_reason": None}],
        },
        "usage": {
            "id": _CHAT,
            "object": "chat.completion.chunk",
            "created": _CREATED,
            "model": "demo",
            "choices": [],
            "usage": _USAGE,
        },
    },
    "CompletionRequest": {
        "simple": {"model": "demo", "prompt": "A penstock is", "max_tokens": 32},
        "stream": {"model": "demo", "prompt": "A penstock is", "stream": True, "temperature": 0},
    },
    "Completion": {
        "answer": {
            "id": _TEXT,
            "object": "text_completion",
            "created": _CREATED,
            "model": "demo",
            "choices": [{"index": 0, "text": " a pipe that feeds a turbine.", "finish_reason": "stop"}],
            "usage": _USAGE,
        }
    },
    "EmbeddingRequest": {
        "one": {"model": "embedder", "input": "a gated pipe"},
        "several": {"model": "embedder", "input": ["a gated pipe", "a turbine"], "encoding_format": "base64"},
    },
    "EmbeddingList": {
        "answer": {
            "object": "list",
            "model": "embedder",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.013, -0.094, 0.051]}],
            "usage": {"prompt_tokens": 4, "total_tokens": 4},
        }
    },
    "RerankRequest": {
        "simple": {
            "model": "reranker",
            "query": "What feeds a turbine?",
            "documents": ["A penstock is a pipe.", "Bread is baked."],
            "top_n": 1,
        }
    },
    "RerankResponse": {
        "answer": {
            "id": "rerank-45c48cce2e2d7fbd",
            "model": "reranker",
            "results": [{"index": 0, "relevance_score": 0.93, "document": {"text": "A penstock is a pipe."}}],
            "usage": {"total_tokens": 17},
        }
    },
    "ResponseRequest": {
        "simple": {"model": "demo", "input": "What is Penstock?"},
        "stream": {"model": "demo", "input": "What is Penstock?", "stream": True, "max_output_tokens": 64},
    },
    "Response": {
        "answer": {
            "id": "resp_d3d9446802a44259",
            "object": "response",
            "created_at": _CREATED,
            "status": "completed",
            "model": "demo",
            "output": [
                {
                    "type": "message",
                    "id": "msg_6512bd43d9caa6e0",
                    "role": "assistant",
                    "status": "completed",
                    "content": [{"type": "output_text", "text": "A gateway for language models.", "annotations": []}],
                }
            ],
            "usage": {"input_tokens": 14, "output_tokens": 7, "total_tokens": 21},
        }
    },
    "ResponseEvent": {"delta": {"type": "response.output_text.delta", "sequence_number": 4, "delta": "A gateway"}},
    "GenerateRequest": {
        "simple": {"text_input": "A penstock is"},
        "details": {
            "text_input": "A penstock is",
            "parameters": {"temperature": 0, "max_tokens": 32, "stop": ["\n"], "details": True},
        },
    },
    "GenerateResponse": {
        "answer": {
            "text_output": " a pipe",
            "model_name": "demo",
            "details": {
                "finish_reason": "eos_token",
                "logprobs": [
                    {"id": 261, "text": " a", "logprob": -0.021, "special": False},
                    {"id": 1170, "text": " pipe", "logprob": -0.34, "special": False},
                ],
            },
        }
    },
    "GenerateStreamResponse": {
        "first": {
            "text_output": " a",
            "model_name": "demo",
            "details": {"token": {"id": 261, "text": " a", "logprob": -0.021, "special": False}},
        },
        "last": {"text_output": "", "model_name": "demo", "details": {"finish_reason": "eos_token"}},
    },
    "ModelList": {
        "answer": {
            "object": "list",
            "data": [{"id": "demo", "object": "model", "created": _CREATED, "owned_by": "penstock"}],
        }
    },
    "Model": {"answer": {"id": "demo", "object": "model", "created": _CREATED, "owned_by": "penstock"}},
}
