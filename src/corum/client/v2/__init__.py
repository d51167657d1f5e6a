"""A client of etcd's v2 API in the vocabulary of python-etcd; reach it as `corum.v2`.

In: paths, values and conditions as keyword arguments. Out: `EtcdResult`, or an exception named for
what etcd refused. Synchronous, and safe for several threads.

Reading order: `errors`, `results`, `connections`, then `client`, `lock` and `auth`.
"""
