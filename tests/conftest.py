"""What every test can count on."""

from __future__ import annotations

import sys
from pathlib import Path

# The tests' own servers are modules beside them; those of the demo lie in scripts/.
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "scripts")]
