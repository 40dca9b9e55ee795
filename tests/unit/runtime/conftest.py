# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import sys
from pathlib import Path

# As on a web host, where the package lies beside its entry script.
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "roles" / "web2py" / "files"))
