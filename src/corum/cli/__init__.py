"""The commands: etcd, etcdctl, etcdutl, corum."""
