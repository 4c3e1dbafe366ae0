"""Write the tables of results/*.json into README and the pages: ``python docs/tables.py``.

A table stands between ``<!-- table NAME -->`` and ``<!-- end of table -->``. NAME.json holds
``command`` (what printed the figures), ``commit`` and ``date`` (when), ``columns`` (headings) and
``rows``, each with one text for each column, as printed, and an ``id`` where a page shows a part:
``<!-- table NAME rows=ID,ID columns=HEADING;HEADING -->``.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / 'docs' / 'results'
PAGES = (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md')))
TABLE = re.compile(r'<!-- table (\w+)(?: rows=(\S+))?(?: columns=(.+?))? -->\n'
                   r'.*?<!-- end of table -->\n', re.DOTALL)


def table(name: str, rows: str | None = None, columns: str | None = None) -> str:
    """Markdown of results/`name`.json, or of some rows (by id) and columns (by heading) of it."""
    results = json.loads((RESULTS / f'{name}.json').read_text())
    headings = columns.split(';') if columns else results['columns']
    shown = ([next(row for row in results['rows'] if row.get('id') == wanted)
              for wanted in rows.split(',')] if rows else results['rows'])
    lines = [headings, ['---'] * len(headings),
             *([row.get(heading, '') for heading in headings] for row in shown)]
    return ''.join('| ' + ' | '.join(line) + ' |\n' for line in lines).replace('|  |', '| |')


def filled(text: str) -> str:
    """A page's text with all of its tables as the results have them."""
    def fill(match: re.Match) -> str:
        start = match[0].split('\n', 1)[0]
        return f'{start}\n\n{table(*match.groups())}\n<!-- end of table -->\n'
    return TABLE.sub(fill, text)


if __name__ == '__main__':
    for page in PAGES:
        page.write_text(filled(page.read_text()))
