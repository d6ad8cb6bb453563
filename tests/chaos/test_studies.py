"""S2, S3: studies that are killed at 100 random moments lose nothing that was acknowledged and run nothing twice."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIVES = Path(__file__).parent / "study_lives.py"


@pytest.mark.chaos
@pytest.mark.timeout(300)
def test_s2_s3_a_study_killed_at_100_random_moments_completes_with_nothing_lost_and_nothing_run_twice(
    tmp_path: Path,
) -> None:
    ended = subprocess.run(  # noqa: S603 - our own interpreter and our own script
        [sys.executable, str(LIVES), str(tmp_path), "--kills", "100"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)
    assert found["broken"] == []
    assert found["kills"] >= 100
