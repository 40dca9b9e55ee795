# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Only tells that the package is there: the stand-in needs nothing of it."""
