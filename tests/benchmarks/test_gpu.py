"""What is to run on a GPU runs on a CPU, keeps its rows, and says what it cannot measure."""

import json
from pathlib import Path

from benchmarks.gpu import SIZES, main
from benchmarks.one_card import GpuBench
from tests.train.servers.stand_in import StandIn


def test_every_row_is_measured_or_says_why_and_is_not_measured_again(tmp_path: Path) -> None:
    rows, out = tmp_path / "rows.jsonl", tmp_path / "gpu.md"
    line = ["--size", "tiny", "--rows", str(rows), "--out", str(out)]
    assert main([*line, "--budget_s", "1e9"]) == 0
    found = [json.loads(row) for row in rows.read_text().split("\n") if row]
    kinds = {row["spec"]["what"] for row in found}
    assert kinds == {"training", "step", "generation", "four_bits"}
    for row in found:
        if "reason" not in row:
            assert row["tokens_per_s"] > 0 and row["peak_gb"] > 0
    reasons = {row["reason"] for row in found if "reason" in row}
    assert {"no vLLM server is named", "4 bits need a GPU"} <= reasons
    assert len(found) - len([row for row in found if "reason" in row]) == 6
    text = out.read_text()
    assert "no vLLM server is named" in text and "tokens_per_s" in text
    before = rows.read_bytes()
    assert main([*line, "--budget_s", "0"]) == 0, "all is there"
    assert rows.read_bytes() == before


def test_a_vllm_server_that_is_named_is_asked_for_as_many_tokens() -> None:
    size = SIZES["tiny"]
    ids = [5] * size.new_tokens
    server = StandIn(lambda name, body: (ids, [-0.1] * len(ids), "length"), max_model_len=64)
    bench = GpuBench(size)
    spec = {"what": "generation", "backend": "vllm", "server": server.url, "episodes": 9}
    with server.running():
        row = bench.measure({**spec, "window": 64})
        assert row["rows"] == 9 and row["tokens_per_s"] > 0
        assert "takes 64 tokens" in bench.measure({**spec, "window": 65})["reason"]
    asked = server.requests
    assert len(asked) == 9 and {len(each["prompt"]) for each in asked} == {64 - size.new_tokens}
    assert {each["max_tokens"] for each in asked} == {size.new_tokens}
