"""What people see of a benchmark: a table and a plot."""

import numpy as np

COLUMNS = (  # key, head, format, width
    ('forward_ms', 'forward ms', '.1f', 12), ('forward_p95_ms', 'p95', '.1f', 8),
    ('ratio', 'ratio', '.2f', 7), ('gflops', 'GFLOP/s', '.0f', 9),
    ('peak_share', 'of peak', '.0%', 9), ('mean_difference_mm', 'mean mm', '.1f', 9),
    ('max_difference_mm', 'max mm', '.0f', 8), ('delta1', 'δ1', '.3f', 7),
    ('delta1_change', 'change', '+.4f', 9), ('predictor_ms', 'whole ms', '.1f', 10),
    ('fps', 'fps', '.0f', 6), ('predictor_ratio', 'ratio', '.2f', 7))


def table(rows):
    """Rows as lines of text."""
    lines = [f'{"weights runtime precision":42}' + ''.join(
        f'{head:>{width}}' for _, head, _, width in COLUMNS)]
    for row in rows:
        label = ' '.join(filter(None, (row['weights'], row['runtime'], row['precision'],
                                       row['device'] if row['device'] != 'cpu' else '')))
        lines.append(f'{label:42}' + (f'  {row["status"]}' if row['status'] != 'ok' else ''.join(
            f'{"–" if row.get(key) is None else format(row[key], form):>{width}}'
            for key, _, form, width in COLUMNS)))
    return '\n'.join(lines)


def save_plot(results, path):
    """Forward passes, and the stages of a frame at each size, as bars."""
    from matplotlib.figure import Figure
    figure = Figure((13, 7), layout='constrained')
    left, right = figure.subplots(1, 2)
    rows = [row for row in results['rows'] if row['status'] == 'ok'][::-1]
    left.barh([f'{row["weights"]}\n{row["runtime"]} {row["precision"]}' for row in rows],
              [row['forward_ms'] for row in rows])
    left.set(xscale='log', xlabel='ms', title='Forward pass for a 640×480 picture, median')
    sizes, below = results['stages'], np.zeros(len(results['stages']))
    for stage in next(iter(sizes.values()), ()):
        times = np.array([took[stage] for took in sizes.values()])
        right.bar(list(sizes), times, bottom=below, label=stage)
        below += times
    right.set(ylabel='ms', title=f'A frame by {results["best"]}, medians')
    if sizes:
        right.legend()
    figure.savefig(path, dpi=100)
