"""The server beside a task is started with arguments that vLLM's own server takes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from nemoflows.gpus import plan
from nemoflows.gpus.serving import vllm_flags
from nemoflows.models.catalogue import OPEN_MODELS
from nemoflows.models.hardware import Hardware
from nemoflows.models.weights import weights_of
from nemoflows.settings import Settings
from nemoflows.types import ModelRef

pytestmark = pytest.mark.vllm

PARSE = """
import json, sys
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser
for flags in json.loads(sys.argv[1]):
    found = make_arg_parser(FlexibleArgumentParser()).parse_args(flags)
    if found.tool_call_parser:
        ToolParserManager.get_tool_parser(found.tool_call_parser)
    reasoning = found.reasoning_parser or found.structured_outputs_config.reasoning_parser
    if reasoning:
        ReasoningParserManager.get_reasoning_parser(reasoning)
    print(found.model, found.max_model_len, found.tensor_parallel_size)
"""


def test_vllm_reads_the_arguments_of_every_model() -> None:
    pytest.importorskip("vllm", reason="needs vLLM: make test-vllm")
    settings = Settings(hardware=Hardware(weights="s3://bucket/weights"))
    flags, expected = [], []
    for row in OPEN_MODELS:
        weights = weights_of(row.name)
        assert weights is not None
        made = plan(weights, gpu="b200", prefix_caching=True, context_tokens=8192)
        model = ModelRef(endpoint="sidecar", name=row.name)
        flags.append(vllm_flags(model, made, settings))
        expected.append(f"s3://bucket/weights 8192 {made.count}")
    done = subprocess.run(
        [sys.executable, "-c", PARSE, json.dumps(flags)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-len(flags) :] == expected
