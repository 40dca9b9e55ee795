# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from pathlib import Path

from ansible.plugins.loader import init_plugin_loader
from ansible.utils.collection_loader import AnsibleCollectionConfig
from hypothesis import settings

# A busy machine is no error.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

COLLECTIONS = Path(__file__).resolve().parents[2] / ".ansible" / "collections"


def pytest_configure() -> None:
    """Let `import ansible_collections.web2py.deployment...` find this working tree."""
    if AnsibleCollectionConfig.collection_finder is not None:
        return  # ansible-test has installed its own

    # Only a folder of this name is a collection to Ansible; the lab makes the same link.
    link = COLLECTIONS / "ansible_collections" / "web2py" / "deployment"
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../../../..")
    init_plugin_loader([str(COLLECTIONS)])
