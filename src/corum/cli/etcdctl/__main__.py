"""python -m corum.cli.etcdctl"""

import sys

from corum.cli.etcdctl import main

sys.exit(main())
