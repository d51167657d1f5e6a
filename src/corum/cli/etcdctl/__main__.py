"""python -m corum.cli.etcdctl"""

from corum.cli.etcdctl import main

main()
