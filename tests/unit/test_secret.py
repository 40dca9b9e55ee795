# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lookup that makes passwords and keys, and keeps them in files."""

from __future__ import annotations

import concurrent.futures
import os
import re

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.loader import lookup_loader


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "inventory" / ".secrets"


def load(loader=None):
    return lookup_loader.get("web2py.deployment.secret", loader=loader or DataLoader(), templar=None)


def lookup(folder, *names, loader=None, check_mode=False):
    return load(loader).run(list(names), variables={"ansible_check_mode": check_mode}, directory=str(folder))


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_secret_is_made_once(folder):
    (made,) = lookup(folder, "shop.database_password")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", made)
    assert lookup(folder, "shop.database_password") == [made]
    assert (folder / "shop.database_password").read_text().strip() == made


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_nobody_else_can_read_it(folder, mask):
    before = os.umask(mask)
    try:
        lookup(folder, "shop.cookie_key")
    finally:
        os.umask(before)
    assert (folder / "shop.cookie_key").stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700


def test_each_name_has_its_own_in_the_order_of_the_names(folder):
    one, two = lookup(folder, "one", "two")
    assert one != two
    assert lookup(folder, "two", "one", "two") == [two, one, two]
    assert files(folder) == [".gitignore", "one", "two"], "nothing else is left"
    assert (folder / ".gitignore").read_text() == "*\n"


def test_no_names_make_nothing(folder):
    assert lookup(folder) == []
    assert not folder.exists()


def test_what_is_there_already_stays(folder):
    folder.mkdir(parents=True)
    (folder / ".gitignore").write_text("something else\n")
    (folder / "given").write_text("  by hand with spaces inside \n\n")
    assert lookup(folder, "given") == ["by hand with spaces inside"]
    lookup(folder, "made")
    assert (folder / ".gitignore").read_text() == "something else\n"
    assert (folder / "given").read_text() == "  by hand with spaces inside \n\n"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/passwd", ".gitignore", "-x", "a b", "a\n", "a\0b", "a$b", "~root"]
)
def test_a_name_that_is_no_file_in_the_folder_is_refused(folder, name):
    with pytest.raises(AnsibleError) as caught:
        lookup(folder, name)
    assert f"the name is {name!r}; it must be" in str(caught.value)
    assert not folder.exists()


def test_an_empty_file_is_no_secret(folder):
    folder.mkdir(parents=True)
    (folder / "empty").write_text(" \n")
    with pytest.raises(AnsibleError, match="is empty; delete it"):
        lookup(folder, "empty")


def test_check_mode_makes_nothing_and_reads_what_is_there(folder):
    assert lookup(folder, "shop.key", check_mode=True) == ["made-by-the-next-run"]
    assert not folder.exists()
    made = lookup(folder, "shop.key")
    assert lookup(folder, "shop.key", check_mode=True) == made


def test_a_file_that_was_encrypted_with_vault(folder):
    made = lookup(folder, "shop.key")
    secrets = [("default", VaultSecret(b"the vault's password"))]
    (folder / "shop.key").write_bytes(VaultLib(secrets).encrypt(made[0]))
    loader = DataLoader()
    loader.set_vault_secrets(secrets)
    assert lookup(folder, "shop.key", loader=loader) == made
    with pytest.raises(AnsibleError):
        lookup(folder, "shop.key")
    assert (folder / "shop.key").read_bytes().startswith(b"$ANSIBLE_VAULT"), "and is not made anew"


def test_a_folder_in_the_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    made = lookup("~/.secrets", "shop.key")
    assert lookup(folder, "shop.key") == made


def test_runs_at_the_same_time_agree(folder):
    """Ansible asks once per host, in processes of their own."""
    plugins = [load() for _ in range(40)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = {text for (text,) in pool.map(lambda plugin: plugin.run(["shop.key"], directory=str(folder)), plugins)}
    assert len(found) == 1
    assert files(folder) == [".gitignore", "shop.key"]
