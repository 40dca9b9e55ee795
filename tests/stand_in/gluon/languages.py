# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Translations, of which the stand-in has none: every text stays as it is."""


class lazyT:
    def __init__(self, text):
        self.text = text

    def __str__(self):
        return self.text
