"""What GRPO says of a step."""

from train.recipes.grpo import describe


def test_one_line_per_step_says_what_happened() -> None:
    line = describe(
        {
            "pass_rate": 0.5,
            "tokens_per_solved": 812.4,
            "peak_context": 301.0,
            "segments_per_episode": 1.5,
            "share_groups_without_signal": 0.25,
            "stop/submitted": 0.9,
            "stop/context_overflow": 0.1,
            "stop/timeout": 0.0,
            "grad_norm": 0.31,
            "entropy": 0.2,
            "seconds/rollout": 9.0,
            "seconds/learn": 7.0,
        }
    )
    assert "pass 0.50 | tokens/solved 812" in line
    assert "submitted 90% context_overflow 10%" in line and "timeout" not in line
