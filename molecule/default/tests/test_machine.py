# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The lab's machines are what the roles take for a freshly installed Debian server, also after a restart."""


def test_the_first_process_is_systemd_and_nothing_has_failed(host):
    assert host.process.get(pid=1).comm == "systemd"
    assert host.run("systemctl is-system-running").stdout.strip() == "running"


def test_the_machine_runs_the_distribution_of_its_group(host):
    group = host.ansible.get_variables()["group_names"]
    assert f"debian{host.system_info.release.split('.')[0]}" in group


def test_files_survive_a_restart(host):
    assert host.file("/var/lib/mark").content_string == "kept"


def test_both_loopback_addresses_are_there(host):
    addresses = host.check_output("ip -brief address show lo")
    assert "127.0.0.1/8" in addresses
    assert "::1/128" in addresses


def test_packages_install_and_start_as_on_a_server(host):
    """Neither a build's package cache nor its ban on starting services is left in the image."""
    assert not host.file("/usr/sbin/policy-rc.d").exists
    host.check_output("apt-get update")
    host.check_output("apt-get install --yes --no-install-recommends memcached")
    assert host.service("memcached").is_running


def test_what_roles_install_is_not_there_beforehand(host):
    for package in ("apache2", "lighttpd", "postgresql", "haproxy", "nfs-common"):
        assert not host.package(package).is_installed
