# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Markup that a view must not escape."""

import copyreg
import html


class XML:
    def __init__(self, text):
        self.text = str(text)

    def __str__(self):
        return self.text


def XML_unpickle(data):
    return XML(data)


copyreg.pickle(XML, lambda xml: (XML_unpickle, (str(xml),)))


def xmlescape(value):
    return str(value) if isinstance(value, XML) else html.escape(str(value))
