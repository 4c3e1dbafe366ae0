"""Names and values that YAML, make, a shell, ROS or argparse may take for something else."""

FILMS = ('my film #2.avi', 'Teil: 1.avi', '[clip] 1.avi', '{a}.avi', '%d.avi', 'no', '1e5',
         '-x.avi', "it's.avi",
         'say "hi".avi', 'back\\slash.avi', 'tab\t.avi', 'line\nbreak.avi', '&a.avi',
         '*a.avi', '!a.avi', '`date`.avi', '$HOME.avi', 'film 🎬.avi', 'a:=b.avi', ' edge .avi')

VALUES = (*FILMS, '0123', '0x10', '1e3', '+5', '.5', '1_000', '12:30', 'true', 'y', 'on', 'null',
          '~', '[', '{', '%', '#', ': ', '- a', '"', "'", '\\', '@a', '|', '>', '---', '...', '<<',
          '=', '!!int 5', 'nan', '.inf', '"a"', "'a'", '$(a)', '$$', ',', ' ', '?', 'é', '-p', '--')
