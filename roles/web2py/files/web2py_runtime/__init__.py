# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every front end of a web2py host goes through: see docs/runtime.md of the collection web2py.deployment."""
