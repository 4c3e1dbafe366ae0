"""README and docs: each page starts with a command, names what there is, and hides no figure."""

import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / 'README.md'
PAGES = sorted((ROOT / 'docs').glob('*.md'))
TEXTS = [README, ROOT / 'CONTRIBUTING.md', *PAGES]
FOLDERS = ('hybrid_depth_ros', 'train', 'test', 'config', 'docs', 'launch')


def named(path):
    return str(path.relative_to(ROOT))


def prose(path):
    """A page without its blocks of code."""
    return re.sub(r'^```.*?^```$', '', path.read_text(), flags=re.DOTALL | re.MULTILINE)


def test_the_readme_is_read_to_the_end():
    assert len(README.read_text().splitlines()) <= 200
    assert {'make demo', 'make test'} <= {
        line.split('  ')[0] for line in README.read_text().splitlines()}


@pytest.mark.parametrize('page', PAGES, ids=named)
def test_a_page_asks_a_question_and_starts_with_the_command(page):
    title, start, *_ = filter(None, page.read_text().split('\n'))
    assert re.fullmatch(r'# .*\?', title)
    assert start == '```sh'
    assert f'docs/{page.name}' in README.read_text()


@pytest.mark.parametrize('page', TEXTS, ids=named)
def test_links_lead_somewhere(page):
    for target in re.findall(r'\]\(([^)#]+)\)', page.read_text()):
        assert target.startswith('https://') or (page.parent / target).exists(), target


@pytest.mark.parametrize('page', TEXTS, ids=named)
def test_files_that_are_named_are_there(page):
    for name in re.findall(r'`([\w./-]+)`', page.read_text()):
        if name.startswith(tuple(f'{folder}/' for folder in FOLDERS)) and 'NNNNN' not in name:
            assert (ROOT / name).exists(), name
        elif page.name == 'architecture.md' and re.search(r'/|\.py$', name) and (
                not name.startswith(('depth/', 'image'))):
            assert (ROOT / 'hybrid_depth_ros' / name).exists() or (
                ROOT / 'train' / name).exists() or (ROOT / name).exists(), name


def test_every_figure_of_the_readme_stands_in_a_page_too():
    pages = ' '.join(map(prose, PAGES))
    figures = set(re.findall(r'(?<![\d.])\d+\.\d+(?![\d.])', prose(README)))
    assert len(figures) > 5
    assert not {figure for figure in figures - {'3.10'}
                if not re.search(rf'(?<![\d.]){re.escape(figure)}(?![\d.])', pages)}


def test_every_page_is_in_the_table_of_contents():
    listed = re.findall(r'^   ([\w/-]+)$', (ROOT / 'docs' / 'index.rst').read_text(), re.MULTILINE)
    assert {page.stem for page in PAGES} <= set(listed)
    listed = re.findall(r'^\w+$', (ROOT / 'docs/api/index.md').read_text(), re.MULTILINE)
    assert {page.stem for page in (ROOT / 'docs/api').glob('*.md')} == {*listed, 'index'}


@pytest.mark.parametrize('page', [README, *PAGES], ids=named)
def test_tables_show_the_results_as_they_lie_in_the_files(page):
    tables = runpy.run_path(str(ROOT / 'docs' / 'tables.py'))
    assert page.read_text() == tables['filled'](page.read_text()), 'run python docs/tables.py'


def test_each_result_names_its_command_and_stands_in_a_page():
    shown = re.findall(r'<!-- table (\w+)', ' '.join(page.read_text() for page in PAGES))
    results = {path.stem: json.loads(path.read_text())
               for path in (ROOT / 'docs' / 'results').glob('*.json')}
    assert len(results) > 8 and set(results) == set(shown)
    for result in results.values():
        assert result['command'] and re.fullmatch(r'[0-9a-f]{7,}', result['commit'])
        assert re.fullmatch(r'\d{4}-\d\d-\d\d', result['date'])
        assert all(set(row) - {'id', 'options'} <= set(result['columns']) for row in result['rows'])


def test_the_drawing_shows_topics_that_are():
    graph = runpy.run_path(str(ROOT / 'docs' / 'node_graph.py'))
    assert (ROOT / 'docs' / 'nodes_and_topics.svg').read_text() == graph['svg'](), (
        'run python docs/node_graph.py')
    listed = re.findall(r'^\| `([\w/]+)` \|', (ROOT / 'docs' / 'parameters.md').read_text(),
                        re.MULTILINE)
    assert set(graph['TOPICS']) <= set(listed)


def test_the_reference_has_the_version_of_the_package():
    version = re.search("version='(.*)'", (ROOT / 'setup.py').read_text())[1]
    assert f"release = '{version}'" in (ROOT / 'docs' / 'conf.py').read_text()
